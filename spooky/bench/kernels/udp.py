"""What a batch of datagrams costs over the loopback.

The operating system's part is in the figures: the twin makes the same system calls.
"""

import socket
from functools import partial
from typing import Final

from spooky._core.udp import UdpSocket
from spooky.bench.kernels.case import Case, State, Work
from spooky.bench.programs import LOOPBACK

SEGMENT: Final = 1200
COUNT: Final = 40
RUN: Final = bytes(SEGMENT * COUNT)

UDP_GRO: Final = 104
"""Of <linux/udp.h>; the standard library has no name for it."""


def _bound() -> socket.socket:
    made = socket.socket(type=socket.SOCK_DGRAM)
    made.bind((LOOPBACK, 0))
    return made


def _send() -> Work:
    sender, receiver = _bound(), _bound()
    udp = UdpSocket(sender.fileno(), sender.family)
    address = receiver.getsockname()
    receiver.close()

    def close() -> None:
        udp.release()
        sender.close()

    return Work(
        run=lambda: udp.send(RUN, SEGMENT, address, 2),
        right=lambda sent: sent == len(RUN),
        close=close,
    )


def _receive(coalesced: bool) -> Work:
    sender, receiver = _bound(), _bound()
    ours = UdpSocket(receiver.fileno(), receiver.family)
    theirs = UdpSocket(sender.fileno(), sender.family)
    if not coalesced:
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
    address = receiver.getsockname()

    def fill() -> State:
        theirs.send(RUN, SEGMENT, address, 2)
        return (64,)

    def close() -> None:
        for udp in (ours, theirs):
            udp.release()
        for end in (sender, receiver):
            end.close()

    return Work(run=ours.receive, right=lambda got: len(got) == COUNT, before=fill, close=close)


CASES: Final = (
    Case("udp send: a run of 40 datagrams, nobody listening", _send),
    Case("udp receive: 40 datagrams, coalesced", partial(_receive, True)),
    Case("udp receive: 40 datagrams, single", partial(_receive, False)),
)
