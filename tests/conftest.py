"""What holds for the whole suite."""

from hypothesis import settings

# No deadline per example: a shared or sanitized machine pauses, and pytest-timeout bounds the test.
settings.register_profile("spooky", deadline=None, print_blob=True)
settings.load_profile("spooky")
