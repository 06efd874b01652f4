"""How a wire speaks: sessions that are given bytes and the time, and do no I/O."""
