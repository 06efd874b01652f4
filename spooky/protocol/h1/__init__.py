"""HTTP/1.1 sessions (RFC 9112), over httptools or its pure twin h11."""
