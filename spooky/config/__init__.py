"""What the operator asked for: schema, loading, diagnosis."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spooky.config.loading import Diagnosis as Diagnosis
    from spooky.config.loading import diagnose as diagnose
    from spooky.config.loading import diagnose_mapping as diagnose_mapping
    from spooky.config.loading import diagnose_text as diagnose_text
    from spooky.config.loading import from_mapping as from_mapping
    from spooky.config.loading import load as load
    from spooky.config.loading import load_text as load_text
    from spooky.config.problems import ConfigurationError as ConfigurationError
    from spooky.config.problems import Problem as Problem
    from spooky.config.problems import Severity as Severity
    from spooky.config.schema import Configuration as Configuration

_HOMES = {
    "Configuration": "spooky.config.schema",
    "ConfigurationError": "spooky.config.problems",
    "Diagnosis": "spooky.config.loading",
    "Problem": "spooky.config.problems",
    "Severity": "spooky.config.problems",
    "diagnose": "spooky.config.loading",
    "diagnose_mapping": "spooky.config.loading",
    "diagnose_text": "spooky.config.loading",
    "from_mapping": "spooky.config.loading",
    "load": "spooky.config.loading",
    "load_text": "spooky.config.loading",
}


def __getattr__(name: str) -> object:
    """Import what is asked for only then: a command that fails needs no YAML to say so."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spooky.config' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
