"""What holds for the whole suite."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline per example: a shared or sanitized machine pauses, and pytest-timeout bounds the test.
settings.register_profile("spooky", deadline=None, print_blob=True)
settings.load_profile("spooky")


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep control sockets and histories of what tests start away from those of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        directory: Path = tmp_path_factory.mktemp("places")
        patch.setenv("XDG_RUNTIME_DIR", str(directory))
        patch.setenv("STATE_DIRECTORY", str(directory / "state"))
        yield
