"""What reading and writing messages of TLS consists of, and those that both sides send."""

def read_certificates(message: bytes) -> list[bytes]:
    """Return the certificates that a Certificate message presents: in DER, leaf first.

    Raises:
        TlsAlert: It is malformed, or says what neither side asks for.
    """

def read_certificate_verify(message: bytes) -> tuple[int, bytes]:
    """Return the scheme and the signature of a CertificateVerify.

    Raises:
        TlsAlert: It is malformed.
    """
