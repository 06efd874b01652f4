"""All mistakes of a file are reported together, each at its place."""

from pathlib import Path

from spooky.config import diagnose

FILE = Path(__file__).with_name("mistakes.yaml")


def test_every_mistake_of_a_file_is_reported_in_one_run():
    diagnosis = diagnose(FILE)
    assert diagnosis.configuration is None
    found = [(p.line, p.column, p.path, p.message) for p in diagnosis.problems]
    assert found == [
        (3, 12, "listen.address", '"localhost" is not an IP address'),
        (4, 9, "listen.port", "YAML reads 0443 as octal, as 291 in decimal"),
        (6, 11, "listen.tls.cert", "cert is given without key"),
        (10, 7, "upstream.api.route.path_prefx", "there is no such key"),
        (10, 7, "upstream.api.route", "the route has neither host nor path_prefix"),
        (13, 18, "upstream.api.backends[0].address",
         "an address has only a scheme, a host and a port"),
        (14, 17, "upstream.api.backends[0].weight",
         "expected a whole number from 1 to 1000, found 2000"),
        (15, 13, "upstream.api.backends[1].id", "upstream.api.backends[0] has the same id"),
        (16, 18, "upstream.api.backends[1].address",
         'the port "80800" is not a number from 1 to 65535'),
        (17, 30, "upstream.api.backends[1].health_check.path", '"health" cannot be asked for'),
        (20, 12, "upstream.api.load_balancing.key", "header needs a name"),
        (22, 49, "upstream.web.route.path_prefix",
         "expected text, found no, which YAML reads as false"),
        (23, 15, "upstream.web.backends", 'expected a list, found the text "10.0.0.3"'),
        (25, 23, "performance.backend_timeout_ms",
         'expected a whole number from 1 to 86400000, found the text "3s"'),
        (26, 27, "performance.max_request_body_bytes",
         'expected a whole number from 1 to 9007199254740992, found the text "10MiB"'),
        (27, 3, "performance.pin_workers", "this key is not supported yet"),
        (28, 1, "max_headers_count", "there is no such key"),
        (31, 3, "log.level", "this key is here already, on line 30"),
    ]  # fmt: skip
    assert all(problem.file == str(FILE) for problem in diagnosis.problems)
    assert sum(bool(problem.remedy) for problem in diagnosis.problems) >= 14
