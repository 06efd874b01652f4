"""C declarations of X25519."""

cdef object new_key()
cdef bytes public_share(object key)
cdef bytes shared_secret(object key, bytes peer)
