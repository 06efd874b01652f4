"""The proxy that the attacks of one file share."""

from collections.abc import Iterator

import pytest

from spooky._core import COMPILED
from tests.attacks.ground import Ground, ground


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A running `spooky serve`, attacked by one test after the other."""
    if not COMPILED:
        pytest.skip("the twins are told the same floods session by session")
    with ground(tmp_path_factory.mktemp("ground")) as running:
        yield running
