"""The QUIC engine exists compiled only: aioquic is its twin."""

from spooky import _core

collect_ignore_glob = [] if _core.COMPILED else ["test_*.py"]
