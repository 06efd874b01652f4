"""Certificates as they are loaded for listeners."""

import gc

from spooky.config.listener_tls import Certificate, ListenerTLS
from spooky.config.schema import Listener
from spooky.generation.certificates import load_listener_tls
from spooky.generation.materials import Materials
from tests.certificates import ca, leaf

NAMES = ("one.test", "two.test")


def test_keys_and_certificates_do_not_wait_for_the_collector() -> None:
    issuer = ca()
    files: dict[str, bytes] = {}
    for name in NAMES:
        made = leaf([name], issuer)
        files |= {f"{name}.pem": made.certificate_pem, f"{name}.key": made.key_pem}
    certificates = tuple(Certificate(name, f"{name}.pem", f"{name}.key") for name in NAMES)
    listener = Listener(tls=ListenerTLS(certificates=certificates))
    gc.collect()
    gc.disable()
    try:
        tls = load_listener_tls(listener, Materials(files, b""))
        assert len({tls.tcp.select(name) for name in (*NAMES, None)}) == len(NAMES) + 1
        del tls
        assert gc.collect() == 0
    finally:
        gc.enable()
