"""What workers give up, each tested to be denied, and that they serve and change without it."""

import errno
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import spooky
from spooky._core import COMPILED, reasons
from spooky.runtime import landlock
from spooky.runtime.confinement import _libc, _libraries
from tests.control.serve import Served, generous, served
from tests.support.ports import free_port
from tests.support.proxy import INGRESSES, run
from tests.support.waiting import until

HAS_LANDLOCK = landlock.version(_libc()) >= 1

ATTEMPTS = """
import ctypes, errno, json, os, signal, socket, subprocess, sys, sysconfig, threading
from spooky.config.security import Privileges, Security
from spooky.edge.process import confine_worker, _import_what_is_imported_late
from spooky.runtime.system_calls import MACHINES

secret, directory, sandbox = sys.argv[1], sys.argv[2], sys.argv[3] == "sandbox"
_import_what_is_imported_late()
kept = open(secret)
sys.path.insert(0, directory)
outside = os.getppid()
is_x86 = os.uname().machine == "x86_64"
if sys.argv[3] == "nobody's":
    # As whoever starts it without being root, though it may not read where Python is.
    sysconfig.get_config_vars()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    sandbox = True
confine_worker(Security(Privileges(enabled=not sandbox), sandbox))
libc = ctypes.CDLL(None, use_errno=True)

def system_call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

def attempt(act):
    try:
        act()
    except OSError as error:
        return error.errno
    return 0

def in_a_thread():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()

acts = {
    "read": lambda: open(secret).close(),
    "list": lambda: os.listdir(directory),
    "write": lambda: open(directory + "/new", "w").close(),
    "overwrite": lambda: open(secret, "r+").close(),
    "remove": lambda: os.unlink(secret),
    "rename": lambda: os.rename(secret, secret + "2"),
    "mode": lambda: os.chmod(secret, 0o777),
    "mkdir": lambda: os.mkdir(directory + "/new"),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "run": lambda: subprocess.run(["/bin/true"]),
    "signal": lambda: os.kill(outside, 0),
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK).close(),
    "packet": lambda: socket.socket(socket.AF_PACKET).close(),
    "bind": lambda: socket.socket().bind(("127.0.0.1", 0)),
    "root": lambda: os.setuid(0),
    "groups": lambda: os.setgroups([0]),
    "ptrace": lambda: system_call(101 if is_x86 else 117, 16, outside, 0, 0),
    "unshare": lambda: system_call(272 if is_x86 else 97, 0x10000000),
    "io_uring": lambda: system_call(425, 1, ctypes.create_string_buffer(120)),
    "pidfd": lambda: os.close(os.pidfd_open(outside)),
    # What it needs.
    "kept": lambda: kept.read(),
    "tcp": lambda: socket.socket().close(),
    "udp": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
    "memory": lambda: os.close(os.memfd_create("x")),
    "thread": in_a_thread,
    "itself": lambda: signal.raise_signal(signal.SIGCHLD),
    "module": lambda: __import__("colorsys"),
}
tried = acts if sandbox else ("read", "write", "root", "groups")
reads_modules = os.access(os.__file__, os.R_OK)
if not reads_modules:
    del acts["module"]
results = {name: attempt(acts[name]) for name in tried}
allowed = []
if sandbox and results["ptrace"] == errno.EPERM:
    # Those with their own attempts would make processes if they were allowed.
    denied = MACHINES[os.uname().machine].denied.items()
    for name, number in denied:
        if name not in ("fork", "vfork"):
            # What succeeds leaves the errno of the call before.
            succeeded = libc.syscall(number, -1, -1, -1, -1, -1, -1) != -1
            if succeeded or ctypes.get_errno() != errno.EPERM:
                allowed.append(name)
print(json.dumps({
    "results": results, "ids": [os.getresuid(), os.getresgid(), os.getgroups()],
    "allowed": allowed, "reads_modules": reads_modules,
}))
"""

NEEDED = ("kept", "tcp", "udp", "memory", "thread", "itself", "module")
BY_SECCOMP = (
    "write", "overwrite", "remove", "rename", "mode", "mkdir", "execute", "fork", "run", "signal",
    "unix", "netlink", "packet", "bind", "root", "groups", "ptrace", "unshare", "io_uring", "pidfd",
)  # fmt: skip


def attempts(what: str) -> dict[str, Any]:
    """Return the errors of attempts by a process that gave up what workers do; 0 for none."""
    # Not pytest's own directory, which nobody else may enter.
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        secret = Path(directory, "secret")
        secret.write_text("secret")
        secret.chmod(0o644)
        return attempts_at(str(secret), directory, what)


def attempts_at(secret: str, directory: str, what: str) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, secret, directory, what],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    return dict(json.loads(found.stdout))


STARTS = [
    "sandbox",
    pytest.param(
        "nobody's",
        marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user"),
    ),
]


@pytest.mark.parametrize("start", STARTS)
def test_what_a_worker_gave_up_is_denied(start: str) -> None:
    """As root, and as somebody who never was."""
    report = attempts(start)
    found = report["results"]
    needed = [name for name in NEEDED if name in found or report["reads_modules"]]
    assert {name: found[name] for name in needed} == dict.fromkeys(needed, 0)
    assert {name for name in BY_SECCOMP if found[name] == 0} == set()
    assert found["ptrace"] == errno.EPERM
    assert report["allowed"] == []
    if start != "sandbox":
        assert {*report["ids"][0], *report["ids"][1]} == {65534}


@pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
def test_files_that_everybody_may_read_are_out_of_reach() -> None:
    found = attempts("sandbox")["results"]
    assert found["read"] != 0
    assert found["list"] != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_workers_of_root_are_nobodys() -> None:
    found = attempts("user")
    users, groups, more = found["ids"]
    assert set(users) == {65534}
    assert 0 not in groups
    assert more == []
    assert found["results"]["root"] != 0
    assert found["results"]["read"] == 0


IDENTITY = """
import logging, os, struct, sys
from spooky.config.security import Privileges, Security
from spooky.edge.process import confine_worker
from spooky.runtime.confinement import _capabilities, _libc

logging.basicConfig(level=logging.WARNING)
number, user, group = sys.argv[1], sys.argv[2] or None, sys.argv[3] or None
if number == "unmapped":
    assert not _libc().unshare(0x10000000), "unshare"
    open("/proc/self/uid_map", "w").write("0 0 1")
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/gid_map", "w").write("0 0 1")
elif number == "unreadable":
    os.__file__ = "/proc/1/environ"
else:
    held = _capabilities(_libc()) & ~(1 << int(number))
    low, high = held & 0xFFFFFFFF, held >> 32
    header = struct.pack("=Ii", 0x20080522, 0)
    assert not _libc().capset(header, struct.pack("=6I", low, low, 0, high, high, 0))
confine_worker(Security(Privileges(user=user, group=group), sandbox=False))
status = open("/proc/self/status").read()
print(os.getresuid(), os.getresgid(), "CapEff:\\t0000000000000000" in status)
"""


def identity(what: str, user: str = "", group: str = "") -> subprocess.CompletedProcess[str]:
    """Give up what workers do, as a root that lacks something."""
    return subprocess.run(
        [sys.executable, "-c", IDENTITY, what, user, group],
        capture_output=True, check=False, timeout=60, text=True,
    )  # fmt: skip


LACKING = {"5": "CAP_KILL", "6": "CAP_SETGID", "7": "CAP_SETUID", "unmapped": "user namespace"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("what", LACKING)
def test_a_root_that_cannot_become_nobody_stays_root_without_capabilities(what: str) -> None:
    found = identity(what)
    if "unshare" in found.stderr or "uid_map" in found.stderr:
        pytest.skip("no user namespace can be made here")
    assert found.stdout == "(0, 0, 0) (0, 0, 0) True\n", found.stderr
    assert LACKING[what] in found.stderr
    assert "they stay root's, without capabilities: give the container" in found.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("asked", [("nobody", ""), ("", "1")])
def test_a_root_that_cannot_become_who_is_configured_does_not_serve(asked: tuple[str, str]) -> None:
    found = identity("7", *asked)
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert "IdentityRefusedError: workers cannot be those of nobody: root lacks CAP_SETUID" in last
    assert "give the container or unit CAP_SETUID, CAP_SETGID and CAP_KILL" in last


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_user_that_cannot_read_python_is_warned_of() -> None:
    assert "cannot read Python's modules" in identity("unreadable").stderr
    assert "cannot read Python's modules" not in identity("7").stderr


def test_processes_begin_where_no_core_dump_is_allowed_at_all() -> None:
    code = """
import resource
from spooky.runtime.confinement import _drop_capabilities, _libc, keep_no_secrets
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
_drop_capabilities(_libc())
keep_no_secrets()
print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True
    )
    assert found.stdout == "(0, 0)\n", found.stderr


def test_names_of_tls_servers_take_no_module_that_is_not_there() -> None:
    code = """
import sys
from spooky.edge.process import _import_what_is_imported_late
_import_what_is_imported_late()
print("encodings.idna" in sys.modules)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True
    )
    assert found.stdout == "True\n", found.stderr


def test_the_directory_of_the_start_is_none_of_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = _libraries()
    assert str(tmp_path) not in found
    assert {
        os.path.dirname(os.__file__),
        os.path.dirname(os.path.dirname(spooky.__file__)),
    } <= found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def serves(serving: Served) -> None:
    for ingress in INGRESSES:
        client = await serving.client(ingress)
        assert (await client.fetch("GET", "/size/10")).status == 200
        await client.close()


def test_running_workers_have_no_privileges_and_change_all_the_same(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, generous) as serving:
            before = serving.workers
            for pid in before:
                status = status_of(pid)
                assert status["NoNewPrivs"] == "1"
                assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", "2")
                assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
                assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
                if os.geteuid() == 0:
                    assert int(status["CapBnd"], 16) == 0
                    assert set(status["Uid"].split()) == {"65534"}
                    assert status["Groups"] == ""
                limits = Path(f"/proc/{pid}/limits").read_text()
                assert re.search(r"Max core file size +1 +1 ", limits)
            assert status_of(serving.process.pid)["NoNewPrivs"] == "1"
            await serves(serving)

            # A certificate, a listener's settings and a limit change in the same processes.
            serving.write(
                lambda settings: settings["performance"].update(client_head_timeout_ms=7000)
            )
            assert (await serving.command("reload"))[0] == 0
            assert serving.workers == before
            await serves(serving)

            if not COMPILED:
                # One worker without kernels, whom no other can follow.
                return
            # And what a process gave up takes another process.
            serving.write(lambda settings: settings.update(security={"sandbox": False}))
            code, output = await serving.command("reload")
            assert code == 0, output
            await until(lambda: not set(before) & set(serving.workers))
            (worker,) = serving.workers
            assert status_of(worker)["Seccomp_filters"] == "1"  # against io_uring
            assert status_of(worker)["NoNewPrivs"] == "1"
            await serves(serving)

    run(scenario)


def test_keys_are_in_no_argument_environment_or_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path, 1, generous) as serving:
            await serves(serving)
            key = (tmp_path / "server.key").read_text().splitlines()[1]
            for pid in (serving.process.pid, *serving.workers):
                for name in ("cmdline", "environ"):
                    assert key.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()
            assert key not in serving.log
            _, plan = await serving.command("history")
            assert key not in plan

    run(scenario)


def inodes_of_control(directory: Path, port: int, supervisor: int) -> set[str]:
    """Return the sockets that a supervisor's operators connect to."""
    found = set()
    for line in Path(f"/proc/{supervisor}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7].startswith(str(directory)):
            found.add(fields[6])
    for line in Path(f"/proc/{supervisor}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "0A":
            found.add(fields[9])
    return found


def sockets_of(pid: int) -> set[str]:
    links = (os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir())
    return {link[8:-1] for link in links if link.startswith("socket:[")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what other processes have open")
def test_data_listeners_lead_to_nothing_of_the_control_plane(tmp_path: Path) -> None:
    """Workers have none of its sockets, and what its paths are called is no route."""
    port = free_port()

    def change(settings: dict[str, Any]) -> None:
        generous(settings)
        settings["control"] = {"socket": str(tmp_path / "control.sock")}
        settings["observability"] = {
            "control_api": {"enabled": True, "required": True, "port": port},
            "metrics": {"enabled": True, "port": free_port()},
        }
        settings["upstream"]["backend"]["route"] = {"path_prefix": "/size"}

    async def scenario() -> None:
        async with served(tmp_path, 1, change) as serving:
            control = inodes_of_control(tmp_path, port, serving.process.pid)
            assert len(control) == 2
            assert control <= sockets_of(serving.process.pid)
            (worker,) = serving.workers
            assert not control & sockets_of(worker)
            for ingress in INGRESSES:
                client = await serving.client(ingress)
                for path in ("/health", "/ready", "/metrics", "/status", "/admin/runtime"):
                    response = await client.fetch("GET", path)
                    assert response.status == 404
                    assert bytes(response.body) == reasons.NO_ROUTE.text.encode() + b"\n"
                await client.close()

    run(scenario)
