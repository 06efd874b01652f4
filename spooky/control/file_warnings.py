"""What is not as it should be in a file that was put in force, in the log."""

import logging
from collections.abc import Sequence
from typing import Final

from spooky.config.problems import Problem

logger = logging.getLogger(__name__)

WARNINGS_LOGGED: Final = 10
"""So many new warnings of a file are logged when it is put in force; whoever asked is told all."""


def log_warnings(warnings: Sequence[Problem], before: Sequence[Problem]) -> None:
    """Log what is not as it should be in what was put in force, and was not there before."""
    known = {(one.path, one.message) for one in before}
    new = [one for one in warnings if (one.path, one.message) not in known]
    for problem in new[:WARNINGS_LOGGED]:
        logger.warning("%s", problem)
    if len(new) > WARNINGS_LOGGED:
        logger.warning("%d more warnings: see `spooky check`", len(new) - WARNINGS_LOGGED)
