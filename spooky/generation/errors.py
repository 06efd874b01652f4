"""Why a configuration cannot be put in force."""


class CompileError(Exception):
    """The configuration is valid but cannot be put in force; says what is wrong and where."""
