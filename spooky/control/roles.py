"""Who may do what with the control API."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a caller may do; each may what those before it may."""

    VIEWER = "viewer"
    """Read."""
    OPERATOR = "operator"
    """Reload, roll back, act on backends."""
    ADMIN = "admin"
    """Put other files in force."""

    def includes(self, other: "Role") -> bool:
        """Return whether who has this role may do what the other may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes:
        name: Who they are; empty if nobody asked.
        role: What they may do.
    """

    name: str
    role: Role

    def require(self, role: Role, what: str) -> None:
        """Make sure that the caller has a role.

        Arguments:
            role: Which.
            what: What it takes the role to do, for people.

        Raises:
            DeniedError: They have it not.
        """
        if not self.role.includes(role):
            raise DeniedError(
                403, "insufficient_role", f"{what} takes the role {role}; yours is {self.role}"
            )


class DeniedError(Exception):
    """The caller may not do this.

    Attributes:
        status: Of the answer.
        code: Why, for programs.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
