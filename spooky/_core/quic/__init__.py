"""The native QUIC engine: compiled together with the kernels, and absent from a pure build.

Its twin is a whole protocol, so it is a library: aioquic's ``QuicConnection``.
"""
