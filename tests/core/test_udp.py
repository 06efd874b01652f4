"""UDP in batches over the loopback, on the compiled kernel and on the twin."""

import errno
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooky import _core
from spooky._core import udp as current
from spooky._core.pure import udp as pure

BUILDS = {"compiled": current, "pure": pure} if _core.COMPILED else {"pure": pure}
FAMILIES = {"IPv4": (socket.AF_INET, "127.0.0.1"), "IPv6": (socket.AF_INET6, "::1")}

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3
SO_NO_CHECK = 11


class End:
    """A socket with the kernel under test on it."""

    def __init__(self, build: ModuleType, family: int, host: str) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind((host, 0))
        self.udp = build.UdpSocket(self.socket.fileno(), family)

    @property
    def address(self) -> tuple:
        return self.socket.getsockname()

    @property
    def port(self) -> int:
        return self.address[1]


Open = Callable[..., End]


@pytest.fixture(params=BUILDS)
def build(request: pytest.FixtureRequest) -> ModuleType:
    return BUILDS[request.param]


@pytest.fixture
def opened(build: ModuleType) -> Iterator[Open]:
    """Open ends of a family, bound to its loopback address unless told otherwise."""
    ends: list[End] = []

    def open_end(family: str, host: str | None = None) -> End:
        number, loopback = FAMILIES[family]
        ends.append(End(build, number, loopback if host is None else host))
        return ends[-1]

    yield open_end
    for end in ends:
        end.udp.release()
        end.socket.close()


@pytest.fixture(params=FAMILIES)
def pair(request: pytest.FixtureRequest, opened: Open) -> tuple[End, End]:
    return opened(request.param), opened(request.param)


def test_a_run_arrives_as_the_datagrams_it_was_cut_into(pair: tuple[End, End]) -> None:
    """One system call out, one coalesced buffer in; the last datagram is shorter."""
    sender, receiver = pair
    payload = bytes(range(256)) * 10
    assert sender.udp.send(payload, 1000, receiver.address, 0) == len(payload)
    got = receiver.udp.receive(64)
    assert [datagram[0] for datagram in got] == [payload[:1000], payload[1000:2000], payload[2000:]]
    assert {datagram[1:] for datagram in got} == {(sender.address, 0)}
    assert receiver.udp.coalesced == 1
    assert receiver.udp.receive(64) == []


@pytest.mark.parametrize("size", [1200, 1447, 65_487 // 64, 1, 40_000])
def test_runs_longer_than_one_call_takes_are_cut(pair: tuple[End, End], size: int) -> None:
    """At most 64 segments and 65,487 bytes pass at once."""
    sender, receiver = pair
    receiver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    payload = bytes(size * 150 if size < 40_000 else size * 2)
    got: list[tuple] = []
    sent = sender.udp.send(payload, size, receiver.address, 0)
    while more := receiver.udp.receive(64):
        got += more
    assert sent == len(payload)
    assert [len(datagram[0]) for datagram in got] == [size] * (len(payload) // size)
    assert sender.udp.gso


@pytest.mark.parametrize("ecn", range(4))
def test_ecn_marks_arrive_as_they_were_set(pair: tuple[End, End], ecn: int) -> None:
    """RFC 9000 section 13.4; for a run and for a single datagram."""
    sender, receiver = pair
    sender.udp.send(bytes(3000), 1200, receiver.address, ecn)
    sender.udp.send(b"alone", 1200, receiver.address, ecn)
    assert [datagram[2] for datagram in receiver.udp.receive(64)] == [ecn] * 4


def test_datagrams_keep_their_order_and_the_batch_its_limit(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    for number in range(40):
        sender.udp.send(b"%d" % number, 10, receiver.address, 0)
    batches = [receiver.udp.receive(count) for count in (5, 20, 64, 64)]
    assert [len(batch) for batch in batches] == [5, 20, 15, 0]
    payloads = [int(datagram[0]) for batch in batches for datagram in batch]
    assert payloads == list(range(40))


def test_an_empty_datagram_arrives_and_an_empty_run_sends_nothing(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    sender.socket.sendto(b"", receiver.address)
    assert sender.udp.send(b"", 1200, receiver.address, 0) == 0
    assert receiver.udp.receive(64) == [(b"", sender.address, 0)]


def test_any_buffer_may_be_sent(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    for payload in (b"one", bytearray(b"two"), memoryview(b"and three")[4:]):
        sender.udp.send(payload, 1200, receiver.address, 0)
    assert [datagram[0] for datagram in receiver.udp.receive(9)] == [b"one", b"two", b"three"]


def test_ip_does_not_fragment(pair: tuple[End, End]) -> None:
    """RFC 9000 section 14: UDP datagrams must not be fragmented at the IP layer."""
    end, _ = pair
    assert end.udp.path_mtu_discovery
    options = [(socket.IPPROTO_IP, IP_MTU_DISCOVER)]
    if end.socket.family == socket.AF_INET6:
        options.append((socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER))
    assert [end.socket.getsockopt(*option) for option in options] == [PMTUDISC_PROBE] * len(options)


def test_a_datagram_too_large_is_an_error_that_says_so(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    with pytest.raises(OSError, match="too long") as caught:
        sender.udp.send(bytes(65_530), 65_530, receiver.address, 0)
    assert caught.value.errno == errno.EMSGSIZE
    assert sender.udp.send(b"small", 1200, receiver.address, 0) == 5


def test_an_unreachable_destination_is_an_error(opened: Open) -> None:
    end = opened("IPv4")
    with pytest.raises(OSError, match=r"Permission denied|unreachable"):
        end.udp.send(b"x" * 3000, 1200, ("255.255.255.255", 9), 0)
    assert end.udp.gso


def test_nobody_listening_is_told_to_a_connected_socket(opened: Open) -> None:
    end = opened("IPv4")
    with socket.socket(type=socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        address = gone.getsockname()
    end.socket.connect(address)
    assert end.udp.send(b"anybody?", 1200, None, 0) == 8
    with pytest.raises(ConnectionRefusedError):
        end.udp.receive(64)
    assert end.udp.receive(64) == []


def test_a_full_socket_takes_whole_datagrams_and_no_more(build: ModuleType) -> None:
    """A UNIX socket stands in: the loopback never fills up. It has none of the features either."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        udp = build.UdpSocket(ours.fileno(), socket.AF_INET)
        found = (udp.gro, udp.gso, udp.ecn, udp.pktinfo, udp.path_mtu_discovery)
        assert found == (False, False, False, False, False)
        payload = bytes(100 * 5000)
        taken = udp.send(payload, 100, None, 0)
        assert 0 < taken < len(payload)
        assert taken % 100 == 0
        assert udp.send(payload, 100, None, 0) == 0
        theirs.recv(200)
        assert udp.send(payload, 100, None, 0) == 100
        udp.release()


def test_segmentation_that_does_not_work_is_given_up(pair: tuple[End, End]) -> None:
    """Without checksums, the kernel refuses UDP_SEGMENT when it is used, not when it is asked."""
    sender, receiver = pair
    sender.socket.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    sender.socket.setsockopt(socket.IPPROTO_UDP, 101, 1)  # UDP_NO_CHECK6_TX
    receiver.socket.setsockopt(socket.IPPROTO_UDP, 102, 1)  # UDP_NO_CHECK6_RX
    assert sender.udp.gso
    assert sender.udp.send(bytes(5000), 1200, receiver.address, 1) == 5000
    assert not sender.udp.gso
    got = receiver.udp.receive(64)
    assert [(len(datagram[0]), datagram[2]) for datagram in got] == [(1200, 1)] * 4 + [(200, 1)]
    assert sender.udp.send(bytes(2400), 1200, receiver.address, 0) == 2400
    assert len(receiver.udp.receive(64)) == 2


def test_without_coalescing_datagrams_come_one_by_one(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    receiver.socket.setsockopt(socket.IPPROTO_UDP, 104, 0)  # UDP_GRO
    assert sender.udp.send(bytes(5000), 1200, receiver.address, 0) == 5000
    assert [len(datagram[0]) for datagram in receiver.udp.receive(64)] == [1200] * 4 + [200]
    assert receiver.udp.coalesced == 0


def test_without_recvmmsg_datagrams_are_received_all_the_same(pair: tuple[End, End]) -> None:
    sender, receiver = pair
    receiver.udp.recvmmsg = False
    for _ in range(20):
        sender.udp.send(bytes(2500), 1000, receiver.address, 3)
    got = receiver.udp.receive(64)
    got += receiver.udp.receive(64)
    expected = [(bytes(size), sender.address, 3) for size in (1000, 1000, 500)]
    assert got == expected * 20
    assert receiver.udp.receive(64) == []


def test_a_buffer_whose_control_messages_were_cut_off_is_dropped(pair: tuple[End, End]) -> None:
    """Where its datagrams begin would be guesswork; the next one is delivered again."""
    sender, receiver = pair
    inet6 = receiver.socket.family == socket.AF_INET6
    # Time stamps, packet information, hop limit and original destination: more than there is room
    # for (SO_TIMESTAMPNS, SO_TIMESTAMPING; IP_PKTINFO, IP_RECVTTL, IP_RECVORIGDSTADDR).
    options = [(socket.SOL_SOCKET, 35, 1), (socket.SOL_SOCKET, 37, 0x18)]
    if inet6:
        options += [(socket.IPPROTO_IPV6, option, 1) for option in (49, 51, 74)]
    else:
        options += [(socket.IPPROTO_IP, option, 1) for option in (8, 12, 20)]
    for option in options:
        receiver.socket.setsockopt(*option)
    sender.udp.send(bytes(3000), 1200, receiver.address, 0)
    assert receiver.udp.receive(64) == []
    assert receiver.udp.truncated == 1
    for level, option, _ in options:
        receiver.socket.setsockopt(level, option, 0)
    sender.udp.send(bytes(3000), 1200, receiver.address, 0)
    assert len(receiver.udp.receive(64)) == 3


# Under a filter of system calls that makes a kernel of 2009: no recvmmsg, and no such options.
OLD_KERNEL = """
import ctypes, platform, socket, struct, sys
from importlib import import_module

RECVMMSG, SETSOCKOPT = {"x86_64": (299, 54), "aarch64": (243, 208)}[platform.machine()]
ENOSYS, ENOPROTOOPT = 38, 92
LOAD, EQUAL, RETURN, ALLOW, FAIL = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050000
program = b"".join(
    struct.pack("HBBI", *step)
    for step in (
        (LOAD, 0, 0, 0),
        (EQUAL, 0, 1, RECVMMSG),
        (RETURN, 0, 0, FAIL | ENOSYS),
        (EQUAL, 0, 3, SETSOCKOPT),
        (LOAD, 0, 0, 24),  # the level
        (EQUAL, 1, 0, socket.SOL_SOCKET),
        (RETURN, 0, 0, FAIL | ENOPROTOOPT),
        (RETURN, 0, 0, ALLOW),
    )
)
build = import_module(sys.argv[1])
text = ctypes.create_string_buffer(program)
filter = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("no filters of system calls here")
ends = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
ends[0].bind(("0.0.0.0", 0))
ends[1].bind(("127.0.0.1", 0))
server, client = (build.UdpSocket(end.fileno(), end.family) for end in ends)
assert client.send(bytes(3000), 1200, ("127.0.0.1", ends[0].getsockname()[1]), 1) == 3000
got = server.receive(64)
assert [(len(payload), ecn) for payload, _, ecn in got] == [(1200, 0), (1200, 0), (600, 0)], got
assert server.send(b"back", 1200, got[0][1], 0) == 4
assert client.receive(64) == [(b"back", ("127.0.0.1", ends[0].getsockname()[1]), 0)]
assert server.receive(64) == []
print(server.gro, server.gso, server.ecn, server.pktinfo, server.path_mtu_discovery,
      server.recvmmsg)
"""


def test_on_a_kernel_that_has_none_of_it_datagrams_pass_all_the_same(build: ModuleType) -> None:
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("the numbers of its system calls are not known")
    command = [sys.executable, "-c", OLD_KERNEL, build.__name__]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no filters" in run.stderr:
        pytest.skip(run.stderr)
    assert run.stdout.split() == ["False"] * 6, run.stderr


def test_the_twin_receives_without_cffi(
    opened: Open, build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    pure.open_libc.cache_clear()
    monkeypatch.setitem(sys.modules, "cffi", None)
    sender, receiver = opened("IPv6"), opened("IPv6")
    assert receiver.udp.recvmmsg is (build is not pure)
    for _ in range(20):
        sender.udp.send(bytes(2500), 1000, receiver.address, 2)
    got = receiver.udp.receive(64)
    assert got == [(bytes(size), sender.address, 2) for size in (1000, 1000, 500)] * 20


@pytest.mark.parametrize("recvmmsg", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_replies_leave_from_the_address_that_was_asked(
    opened: Open, family: str, recvmmsg: bool
) -> None:
    """On a socket for all addresses; IPv4 on an IPv6 socket included."""
    server = opened(family, "0.0.0.0" if family == "IPv4" else "::")
    assert server.udp.pktinfo
    server.udp.recvmmsg = recvmmsg
    client = opened("IPv4")
    for asked in ("127.0.0.5", "127.0.0.6", "127.0.0.5"):
        client.udp.send(bytes(3000), 1200, (asked, server.port), 1)
        got = server.udp.receive(64)
        assert [len(datagram[0]) for datagram in got] == [1200, 1200, 600]
        source = got[0][1]
        assert source[0] == ("127.0.0.1" if family == "IPv4" else "::ffff:127.0.0.1")
        assert server.udp.send(bytes(2000), 1200, source, 2) == 2000
        replies = client.udp.receive(64)
        assert [reply[1:] for reply in replies] == [((asked, server.port), 2)] * 2


def test_a_dual_stack_socket_answers_ipv6_too(opened: Open) -> None:
    server, client = opened("IPv6", "::"), opened("IPv6")
    client.udp.send(b"ask", 1200, ("::1", server.port), 3)
    ((payload, source, ecn),) = server.udp.receive(64)
    assert (payload, source, ecn) == (b"ask", client.address, 3)
    assert server.udp.send(bytes(3000), 1200, source, 1) == 3000
    assert {reply[1:] for reply in client.udp.receive(64)} == {(("::1", server.port, 0, 0), 1)}


def test_peers_unused_for_longest_are_forgotten_and_others_not(
    opened: Open, build: ModuleType
) -> None:
    """A flood of sources cannot fill the memory, nor turn replies away from who is heard."""
    server, client = opened("IPv4", "0.0.0.0"), opened("IPv4")
    client.udp.send(b"ask", 1200, ("127.0.0.5", server.port), 0)
    ((_, source, _),) = server.udp.receive(64)
    for number in range(build.PEERS_MAX * 2):
        server.udp.send(b"", 1200, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1), 0)
        if number % 1000 == 0:
            server.udp.send(b"", 1200, source, 0)
    server.udp.send(b"still", 1200, source, 0)
    assert client.udp.receive(64) == [(b"still", ("127.0.0.5", server.port), 0)]
    for number in range(build.PEERS_MAX * 5):
        server.udp.send(b"", 1200, (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 2), 0)
    server.udp.send(b"who?", 1200, source, 0)
    assert client.udp.receive(64) == [(b"who?", ("127.0.0.1", server.port), 0)]


def test_peers_unused_since_the_last_call_but_one_are_forgotten(opened: Open) -> None:
    """One that is used, to send or to receive, is not: from where it is answered tells."""
    server, client = opened("IPv4", "0.0.0.0"), opened("IPv4")

    def hear() -> tuple[str, int]:
        client.udp.send(b"ask", 1200, ("127.0.0.5", server.port), 0)
        ((_, source, _),) = server.udp.receive(64)
        return source

    def answered_from(source: tuple[str, int]) -> str:
        server.udp.send(b"answer", 1200, source, 0)
        ((_, (host, _), _),) = client.udp.receive(64)
        return host

    source = hear()
    for use in (hear, lambda: answered_from(source), hear, hear):
        server.udp.forget_unused()
        use()
    server.udp.forget_unused()
    assert answered_from(source) == "127.0.0.5"
    server.udp.forget_unused()
    server.udp.forget_unused()
    assert answered_from(source) == "127.0.0.1"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_one_socket_was_told_another_learns(opened: Open, family: str) -> None:
    """A datagram handed to another worker is answered from the address that was asked, too."""
    host = "0.0.0.0" if family == "IPv4" else "::"
    first, second, client = opened(family, host), opened(family, host), opened("IPv4")
    client.udp.send(b"ask", 1200, ("127.0.0.5", first.port), 0)
    ((_, source, _),) = first.udp.receive(64)
    asked = first.udp.asked(source)
    assert asked == (b"" if family == "IPv4" else bytes(10) + b"\xff\xff") + b"\x7f\0\0\5"
    assert second.udp.asked(source) == b""
    second.udp.learn(source, asked)
    assert second.udp.asked(source) == asked
    second.udp.send(b"answer", 1200, source, 0)
    assert client.udp.receive(64) == [(b"answer", ("127.0.0.5", second.port), 0)]
    for wrong in (b"", asked[:-1], asked + b"x"):
        with pytest.raises(ValueError, match="packed"):
            second.udp.learn(source, wrong)


@pytest.mark.parametrize(
    ("segment_size", "address", "ecn"),
    [
        (0, ("127.0.0.1", 9), 0),
        (-5, ("127.0.0.1", 9), 0),
        (1200, ("127.0.0.1", 9), 4),
        (1200, ("127.0.0.1", 9), -1),
        (1200, ("localhost", 9), 0),
        (1200, ("::1", 9), 0),
        (1200, ("127.0.0.1", 65_536), 0),
        (1200, ("127.0.0.1", -1), 0),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    opened: Open, segment_size: int, address: tuple, ecn: int
) -> None:
    with pytest.raises(ValueError, match=r"segments|numeric|port"):
        opened("IPv4").udp.send(b"x", segment_size, address, ecn)


def test_an_address_is_the_same_however_it_is_written(opened: Open) -> None:
    sender, receiver = opened("IPv6"), opened("IPv6")
    for host in ("::1", "0:0:0:0:0:0:0:1"):
        sender.udp.send(b"hello", 1200, (host, receiver.port), 0)
        receiver.udp.send(b"back", 1200, (host, sender.port), 0)
        assert receiver.udp.receive(64) == [(b"hello", ("::1", sender.port, 0, 0), 0)]
        assert sender.udp.receive(64) == [(b"back", ("::1", receiver.port, 0, 0), 0)]


def test_a_descriptor_that_was_released_is_left_alone(pair: tuple[End, End]) -> None:
    end, other = pair
    end.udp.release()
    end.udp.release()
    for use in (
        lambda: end.udp.send(b"x", 1, other.address, 0),
        lambda: end.udp.receive(1),
    ):
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            use()
        assert caught.value.errno == errno.EBADF
    end.socket.sendto(b"still open", other.address)
    assert len(other.udp.receive(1)) == 1


def test_what_is_no_socket_is_refused(build: ModuleType) -> None:
    with open("/dev/null", "rb") as file, pytest.raises(OSError, match=r"socket") as caught:
        build.UdpSocket(file.fileno(), socket.AF_INET)
    assert caught.value.errno == errno.ENOTSOCK
    with pytest.raises(ValueError, match="AF_INET"):
        build.UdpSocket(0, socket.AF_UNIX)


def message(level: int, kind: int, content: bytes, length: int | None = None) -> bytes:
    """Return a control message, with a length that may be a lie."""
    size = 16 + len(content)
    head = struct.pack("@Nii", size if length is None else length, level, kind)
    return (head + content).ljust(-(-size // 8) * 8, b"\0")


KINDS = st.sampled_from([(17, 104), (0, 1), (0, 8), (41, 67), (41, 50), (1, 29), (17, 103), (0, 2)])
CONTENTS = st.one_of(
    st.binary(max_size=24), st.integers(-5, 70_000).map(lambda value: struct.pack("@i", value))
)
MESSAGES = st.builds(
    lambda kind, content, length: message(*kind, content, length),
    KINDS,
    CONTENTS,
    st.one_of(st.none(), st.integers(0, 60), st.sampled_from([2**63 - 1, 2**64 - 1, 2**64 - 8])),
)


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@given(st.lists(MESSAGES, max_size=5), st.binary(max_size=20), st.integers(0, 8))
def test_both_builds_read_the_same_control_messages(
    messages: list[bytes], rest: bytes, cut: int
) -> None:
    """The last one may lack its padding."""
    control = b"".join(messages) + rest
    control = control[: len(control) - cut]
    assert current.read_control(control) == pure.read_control(control)


def test_control_messages_say_what_they_say(build: ModuleType) -> None:
    told = [
        message(17, 104, struct.pack("@i", 1200)),
        message(0, 1, b"\xff"),
        message(0, 8, bytes(8) + b"\x7f\0\0\5"),
    ]
    assert build.read_control(b"".join(told)) == (1200, 3, b"\x7f\0\0\5")
    told = [message(41, 67, struct.pack("@i", 0xFE)), message(41, 50, bytes(range(20)))]
    assert build.read_control(b"".join(told)) == (0, 2, bytes(range(16)))
    assert build.read_control(b"") == (0, 0, b"")


@pytest.mark.skipif(not _core.COMPILED, reason="the kernels are not compiled")
@given(st.binary(max_size=4000), st.integers(60, 1500), st.integers(0, 3))
def test_both_builds_deliver_the_same_datagrams(payload: bytes, size: int, ecn: int) -> None:
    got = []
    for build in BUILDS.values():
        sender, receiver = (End(build, *FAMILIES["IPv4"]) for _ in range(2))
        with sender.socket, receiver.socket:
            assert sender.udp.send(payload, size, receiver.address, ecn) == len(payload)
            batch = receiver.udp.receive(100)
            assert {datagram[1] for datagram in batch} <= {sender.address}
            got.append([(datagram[0], datagram[2]) for datagram in batch])
            sender.udp.release()
            receiver.udp.release()
    assert got[0] == got[1]
    assert b"".join(datagram[0] for datagram in got[0]) == payload
