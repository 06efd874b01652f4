"""What the kernels cost: one list of cases for ``spooky bench micro`` and for ``benchmarks/``."""
