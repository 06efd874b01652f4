"""What a dispatcher needs to know of QUIC packets; see ``spooky/_core/pure/packets.py``."""

from spooky._core.pure.packets import (
    CLIENT_CONNECTION_ID_MIN_LENGTH as CLIENT_CONNECTION_ID_MIN_LENGTH,
)
from spooky._core.pure.packets import CONNECTION_ID_LENGTH as CONNECTION_ID_LENGTH
from spooky._core.pure.packets import CONNECTION_ID_MAX_LENGTH as CONNECTION_ID_MAX_LENGTH
from spooky._core.pure.packets import INITIAL_DATAGRAM_MIN_SIZE as INITIAL_DATAGRAM_MIN_SIZE
from spooky._core.pure.packets import VERSION_1 as VERSION_1
from spooky._core.pure.packets import VERSION_2 as VERSION_2
from spooky._core.pure.packets import ConnectionIds as ConnectionIds
from spooky._core.pure.packets import PacketHeader as PacketHeader
from spooky._core.pure.packets import PacketType as PacketType
from spooky._core.pure.packets import initial_token as initial_token
from spooky._core.pure.packets import parse_header as parse_header
