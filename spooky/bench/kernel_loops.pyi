"""Loops over kernel calls as other kernels make them: through C, without Python between."""

from collections.abc import Callable
from typing import Any

from spooky._core.balance import Balancer
from spooky._core.quic.crypto import HeaderKey, PacketKey
from spooky._core.routes import RouteTable

def calls(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> Any:
    """Call a kernel's function so often; return what the last call returned."""

def no_calls(function: Callable[..., Any], arguments: tuple[Any, ...], count: int) -> Any:
    """Do what :func:`calls` does, without calling."""

def picks(balancer: Balancer, count: int) -> int:
    """Pick so often, each time for another key; return a sum of the picks."""

def no_picks(balancer: Balancer, count: int) -> int:
    """Do what :func:`picks` does, without picking."""

def lookups(table: RouteTable, requests: list[tuple[bytes, bytes, bytes]]) -> int:
    """Look up each (host, path, method); return how many found a target."""

def no_lookups(table: RouteTable, requests: list[tuple[bytes, bytes, bytes]]) -> int:
    """Do what :func:`lookups` does, without looking up."""

def protections(key: PacketKey, mask: HeaderKey, packet: bytearray, count: int) -> int:
    """Seal so many packets in place, each with the next number, and mask their headers.

    Arguments:
        packet: Its header of 13 bytes, four of them the number; its payload; room for the tag.
    """

def no_protections(key: PacketKey, mask: HeaderKey, packet: bytearray, count: int) -> int:
    """Do what :func:`protections` does, without sealing and masking."""

def openings(key: PacketKey, header: bytes, sealed: bytes, count: int) -> int:
    """Open one packet so often; return the bytes opened."""

def no_openings(key: PacketKey, header: bytes, sealed: bytes, count: int) -> int:
    """Do what :func:`openings` does, without opening."""
