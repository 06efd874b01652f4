"""Who is at the other end of a Unix socket, as the kernel tells it."""

import struct
from typing import Final

CREDENTIALS: Final = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user, group."""
