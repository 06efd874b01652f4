"""HTTP/2 sessions (RFC 9113), over ngh2 or its pure twin h2."""
