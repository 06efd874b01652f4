"""UDP in batches: what the kernel coalesced comes in, what it shall segment goes out.

The one kernel that makes system calls, on a descriptor that somebody else opened and closes.
"""

_Address = tuple[str, int] | tuple[str, int, int, int]

PEERS_MAX: int
SEGMENTS_MAX: int
SEND_MAX_BYTES: int

def read_control(control: bytes) -> tuple[int, int, bytes]:
    """Read the control messages of a received datagram; what is malformed ends the reading.

    Arguments:
        control: As ``recvmsg`` leaves them.

    Returns:
        The size of the segments the kernel coalesced (0: it did not; bytes), the ECN bits, and the
        packed address the datagram was sent to (empty: not told).
    """

class UdpSocket:
    """A UDP socket, with as many features as its kernel has.

    Turns on what there is; path MTU discovery means that IP does not fragment. On a socket bound
    to all addresses, replies leave from the address that the peer last sent to. That is remembered
    for the ``PEERS_MAX`` peers last heard of or sent to, at least.

    Arguments:
        fd: The descriptor of a bound or connected UDP socket; stays its owner's.
        family: ``AF_INET`` or ``AF_INET6``.

    Attributes:
        gro: Whether the kernel coalesces what it receives (UDP_GRO).
        gso: Whether it segments what is sent (UDP_SEGMENT); false from the first time that it
            turns out not to.
        ecn: Whether it tells the ECN bits of what it receives.
        pktinfo: Whether it tells the address that datagrams were sent to, and is asked to.
        path_mtu_discovery: Whether IP is kept from fragmenting.
        recvmmsg: Whether one system call receives many datagrams.
        coalesced: Received buffers that held several datagrams, so far.
        truncated: Received buffers that were dropped because they came incomplete, so far.

    Raises:
        OSError: It is no socket.
    """

    gro: bool
    gso: bool
    ecn: bool
    pktinfo: bool
    path_mtu_discovery: bool
    recvmmsg: bool
    coalesced: int
    truncated: int
    def __init__(self, fd: int, family: int) -> None: ...
    def receive(self, max_datagrams: int) -> list[tuple[bytes, _Address, int]]:
        """Receive what is there, without waiting.

        Arguments:
            max_datagrams: When to stop. A buffer of the kernel is not torn apart, so the last
                ones may hold some more: at most 16 buffers of 64 KiB.

        Returns:
            Payload, source and ECN bits of each datagram.

        Raises:
            OSError: There is nothing but an error of the socket, as of an earlier datagram.
        """

    def send(
        self,
        payload: bytes | bytearray | memoryview,
        segment_size: int,
        address: _Address | None,
        ecn: int,
    ) -> int:
        """Send a run of datagrams, in as few system calls as possible, without waiting.

        Arguments:
            payload: The datagrams, one after the other; nothing is sent for an empty one.
            segment_size: Length of each but the last, which may be shorter; bytes.
            address: Where they go; ``None``: where the socket is connected to.
            ecn: The two ECN bits.

        Returns:
            How many bytes of ``payload``, whole datagrams, the kernel took. If not all: its buffer
            is full.

        Raises:
            OSError: The kernel refuses the rest, with ``EMSGSIZE`` if a datagram is too large for
                the path as it is known.
            ValueError: An argument makes no sense; the address must be numeric.
        """

    def asked(self, address: _Address) -> bytes:
        """Return the packed address that a peer sent to last; empty if not told or forgotten."""

    def learn(self, address: _Address, asked: bytes) -> None:
        """Remember the address that a peer sent to, as another socket was told.

        Raises:
            ValueError: It is not a packed address of this socket's family.
        """

    def forget_unused(self) -> None:
        """Forget the peers that were not heard of or sent to since the last call but one."""

    def release(self) -> None:
        """Use the descriptor no more; its owner may close it."""
