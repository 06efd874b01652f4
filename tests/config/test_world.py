"""What a configuration needs of the machine: files, certificates, keys."""

import datetime
import errno

import pytest
from cryptography.hazmat.primitives import serialization

from spooky.config import Severity, diagnose, load_text
from spooky.config.report import Report
from spooky.config.world import check_world
from tests import certificates

UPSTREAM = (
    "upstream: {api: {route: {host: a}, backends: [{id: a, address: 'https://192.0.2.1'}]}}\n"
)


@pytest.fixture(scope="module")
def authority():
    return certificates.ca()


@pytest.fixture
def good(tmp_path, authority):
    """A folder with a certificate that is good for a.example."""
    certificates.write(certificates.leaf(["a.example", "*.b.example"], authority), tmp_path)
    (tmp_path / "server.key").chmod(0o600)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    return tmp_path


def check(folder, tls="cert: server.pem, key: server.key", more=""):
    file = folder / "config.yaml"
    file.write_text(f"listen:\n  tls: {{{tls}}}\n  port: 0\n{UPSTREAM}{more}")
    return diagnose(file, files=True).problems


def only(folder, tls="cert: server.pem, key: server.key", more=""):
    (problem,) = check(folder, tls, more)
    return problem


def test_a_good_certificate_has_no_problems(good):
    assert check(good) == []


def test_a_certificate_that_names_no_host_is_warned_of(good, authority):
    certificates.write(certificates.leaf([], authority), good)
    (good / "server.key").chmod(0o600)
    problem = only(good)
    assert problem.severity is Severity.WARNING
    assert "names no host" in problem.message
    assert check(good, "cert: server.pem, key: server.key, strict_authority: false") == []
    certificates.write(certificates.leaf(["192.0.2.1"], authority), good)
    (good / "server.key").chmod(0o600)
    assert check(good) == []


def test_nothing_is_read_unless_asked_for(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"listen:\n  tls: {{cert: none.pem, key: none.key}}\n{UPSTREAM}")
    assert diagnose(file).problems == []


def test_relative_names_start_at_the_directory_of_the_file(good, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert check(good) == []


def test_missing_files_are_each_named(good):
    cert, key = check(good, "cert: none.pem, key: none.key")
    assert cert.path == "listen.tls.cert"
    assert (cert.line, cert.column) == (2, 15)
    assert "No such file" in cert.message
    assert "none.pem" in cert.message
    assert key.path == "listen.tls.key"


def test_missing_files_are_named_beside_other_errors(good):
    """All problems at once: the files are looked at even if a rule is broken elsewhere."""
    paths = [p.path for p in check(good, "cert: none.pem, key: server.key", "logg: 1\n")]
    assert paths == ["listen.tls.cert", "logg"]


def test_a_file_that_may_not_be_read_says_so(good, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("spooky.config.world.FilePath.read_bytes", refuse)
    world = check_world_of(good)
    assert [p.message for p in world] == [
        f"{good}/server.pem: Permission denied",
        f"{good}/server.key: Permission denied",
    ]
    assert "the user that runs the service" in world[0].remedy


def check_world_of(folder):
    """Check a configuration that was read before files could not be read any more."""
    report = Report("x")
    tls = f"{{cert: {folder}/server.pem, key: {folder}/server.key}}"
    configuration = load_text(f"listen: {{tls: {tls}}}\n{UPSTREAM}")
    check_world(configuration, report, certificates.now())
    return report.problems


def test_a_directory_or_device_is_no_certificate(good):
    assert "is not a file" in only(good, "cert: ., key: server.key").message
    assert "is not a file" in only(good, "cert: /dev/zero, key: server.key").message


def test_a_file_far_too_large_is_not_read(good):
    (good / "server.pem").write_bytes(bytes((1 << 20) + 1))
    assert "1048577 bytes" in only(good).message


def test_exchanged_certificate_and_key_are_recognized(good):
    cert, key = check(good, "cert: server.key, key: server.pem")
    assert "certificate and key are exchanged" in cert.remedy
    assert "certificate and key are exchanged" in key.remedy


def test_der_gets_the_command_that_converts_it(good, authority):
    (good / "server.pem").write_bytes(authority.der)
    assert "openssl x509 -inform der" in only(good).remedy


def test_rubbish_is_no_pem(good):
    (good / "server.pem").write_bytes(b"rubbish")
    assert "is not a certificate in PEM" in only(good).message


def test_an_encrypted_key_says_so(good, authority):
    encrypted = authority.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (good / "server.key").write_bytes(encrypted)
    problem = only(good)
    assert "is encrypted" in problem.message
    assert "openssl pkey" in problem.remedy


def test_a_key_of_another_certificate_is_refused(good, authority):
    other = certificates.leaf(["a.example"], authority)
    (good / "server.key").write_bytes(other.key_pem)
    problem = only(good)
    assert problem.path == "listen.tls.key"
    assert "does not fit" in problem.message


def test_a_chain_in_the_wrong_order_is_recognized(good, authority):
    leaf = certificates.leaf(["a.example"], authority)
    certificates.write(leaf, good)
    (good / "server.key").chmod(0o600)
    (good / "server.pem").write_bytes(authority.certificate_pem + leaf.certificate_pem)
    assert "own certificate first" in only(good).remedy


def test_an_expired_certificate_is_an_error(good, authority):
    certificates.write(certificates.expired(["a.example"], authority), good)
    (good / "server.key").chmod(0o600)
    problem = only(good)
    assert problem.severity is Severity.ERROR
    assert "expired on" in problem.message


def test_a_certificate_of_the_future_is_an_error(good, authority):
    tomorrow = certificates.now() + datetime.timedelta(days=1)
    certificates.write(certificates.leaf(["a.example"], authority, not_before=tomorrow), good)
    (good / "server.key").chmod(0o600)
    assert "is not valid before" in only(good).message


@pytest.mark.parametrize(("days", "warns"), [(13, True), (15, False)])
def test_a_certificate_that_expires_within_14_days_is_a_warning(good, authority, days, warns):
    end = certificates.now() + datetime.timedelta(days=days, hours=1)
    certificates.write(certificates.leaf(["a.example"], authority, not_after=end), good)
    (good / "server.key").chmod(0o600)
    found = check(good)
    assert len(found) == warns
    if warns:
        assert found[0].severity is Severity.WARNING
        assert "in 13 days" in found[0].message


def test_a_key_that_everybody_can_read_is_a_warning(good):
    (good / "server.key").chmod(0o644)
    problem = only(good)
    assert problem.severity is Severity.WARNING
    assert "chmod o-r" in problem.remedy


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("x.b.example", True),
        ("'*.b.example'", True),
        ("b.example", False),
        ("x.y.b.example", False),
        ("'*.a.example'", False),
    ],
)
def test_a_certificate_covers_the_name_it_is_chosen_by(good, name, covered):
    """RFC 9525 section 6.3: a wildcard stands for one label."""
    found = check(
        good, f"certificates: [{{server_name: {name}, cert: server.pem, key: server.key}}]"
    )
    assert (found == []) == covered
    if not covered:
        (problem,) = found
        assert problem.path == "listen.tls.certificates[0].server_name"
        assert "it covers a.example, *.b.example" in problem.remedy


def test_authorities_of_clients_are_read(good):
    tls = "cert: server.pem, key: server.key, client_auth: {enabled: true, ca_file: %s}"
    assert check(good, tls % "ca.pem") == []
    assert only(good, tls % "none.pem").path == "listen.tls.client_auth.ca_file"
    tls = "certificates: [{server_name: a.example, cert: server.pem, key: server.key, client_auth: "
    tls += "{enabled: true, ca_file: %s}}]"
    assert check(good, tls % "ca.pem") == []
    found = only(good, tls % "none.pem")
    assert found.path == "listen.tls.certificates[0].client_auth.ca_file"


def test_authorities_and_client_certificates_towards_backends_are_read(good, authority):
    client = certificates.write(certificates.client_leaf("spooky", authority), good, "client")
    client.key.chmod(0o600)
    (good / "authorities").mkdir()
    (good / "authorities" / "ca.crt").write_bytes(authority.certificate_pem)
    (good / "empty").mkdir()
    more = "upstream_tls: {ca_file: ca.pem, ca_dir: authorities, client_certificate: client.pem"
    assert check(good, more=f"{more}, client_key: client.key}}\n") == []
    assert "does not fit" in only(good, more=f"{more}, client_key: server.key}}\n").message
    assert "no file that ends" in only(good, more="upstream_tls: {ca_dir: empty}\n").message
    assert "No such file" in only(good, more="upstream_tls: {ca_dir: none}\n").message


def test_log_files_can_be_written(good):
    assert check(good, more="access_log: {path: access.log}\n") == []
    missing = only(good, more="access_log: {path: logs/access.log}\n")
    assert "does not exist" in missing.message
    assert "is a directory" in only(good, more="log: {file: {enabled: true, path: .}}\n").message
    assert check(good, more="access_log: {enabled: false, path: logs/access.log}\n") == []


def test_a_listener_that_is_not_used_is_not_looked_at(good):
    file = good / "config.yaml"
    file.write_text(
        "listen: {tls: {cert: none.pem, key: none.key}}\n"
        f"listeners: [{{port: 0, tls: {{cert: server.pem, key: server.key}}}}]\n{UPSTREAM}"
    )
    (problem,) = diagnose(file, files=True).problems
    assert "not used" in problem.message
