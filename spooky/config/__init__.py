"""What the operator asked for: schema, loading, diagnosis."""

from spooky.config.loading import diagnose, diagnose_text, from_mapping, load, load_text
from spooky.config.problems import ConfigurationError, Problem, Severity
from spooky.config.schema import Configuration

__all__ = [
    "Configuration",
    "ConfigurationError",
    "Problem",
    "Severity",
    "diagnose",
    "diagnose_text",
    "from_mapping",
    "load",
    "load_text",
]
