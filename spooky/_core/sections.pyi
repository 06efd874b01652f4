"""HTTP/3 field sections; the twin says the rest."""

from spooky._core.pure.sections import decode_fields, encode_fields

__all__ = ["decode_fields", "encode_fields"]
