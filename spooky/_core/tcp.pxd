cpdef bytes receive(int descriptor)
cpdef Py_ssize_t send(int descriptor, bytes data, Py_ssize_t start) except -1
