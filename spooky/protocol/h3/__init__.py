"""HTTP/3 sessions (RFC 9114)."""
