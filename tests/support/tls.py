"""TLS contexts of clients that trust whoever answers."""

import ssl


def plain_context(*protocols: str) -> ssl.SSLContext:
    """Return a client context that trusts anybody and offers these protocols, if any."""
    # Not the default one: it would read all authorities of the machine, which takes longer than
    # the handshake.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
