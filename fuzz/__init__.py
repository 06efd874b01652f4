"""Coverage-guided fuzzing: one module per target, each with the seeds it begins from.

A target is a module with a function ``run(data)``, which raises on what must not happen, and
``seeds()``, which yields inputs that reach deep. What a run found stays in ``build/fuzz/TARGET``;
a crash is replayed with ``python -m fuzz TARGET FILE`` and becomes a regression test.
"""
