"""Which backend: a thin layer over :mod:`spooky._core.balance`."""
