"""What a transport knows of what its peer has."""

import socket
from typing import Any

from spooky.runtime.byte_transport import ByteTransport


class Transport:
    """One whose socket is closed already, with something left to write."""

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.socket.close()

    def get_write_buffer_size(self) -> int:
        return 7

    def get_extra_info(self, name: str) -> Any:
        return self.socket if name == "socket" else None


def test_of_a_closed_socket_only_what_waits_here_is_known() -> None:
    its: Any = ByteTransport.__new__(ByteTransport)
    its.transport = Transport()
    assert its.unwritten() == 7
