# cython: language_level=3, boundscheck=False, wraparound=False
"""X25519 of ``cryptography`` (RFC 7748), which nearly every handshake exchanges keys by."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

# The public ones import a module and ask whether there is X25519, which there is, at each call: 30,000
# instructions of a handshake. Where a release keeps these elsewhere, the public ones do.
cdef object generate = X25519PrivateKey.generate
cdef object read_share = X25519PublicKey.from_public_bytes
try:
    from cryptography.hazmat.bindings._rust import openssl
    generate = openssl.x25519.generate_key
    read_share = openssl.x25519.from_public_bytes
except (ImportError, AttributeError):
    pass


cdef object new_key():
    return generate()


cdef bytes public_share(object key):
    return key.public_key().public_bytes_raw()


cdef bytes shared_secret(object key, bytes peer):
    """Return what both sides know; raises ValueError for a share that is none."""
    return key.exchange(read_share(peer))
