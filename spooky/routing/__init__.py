"""Which upstream: a thin layer over :mod:`spooky._core.routes`."""
