"""What files said when they were looked at last, so that nothing comes in force again by itself."""

import hashlib
from collections.abc import Mapping

import msgspec


class FilesSeen(msgspec.Struct):
    """What is put in force again only if somebody asks for it, or the file changes.

    It outlives rollbacks, which is what it is for, and goes to a program that takes over.

    Attributes:
        configuration: The SHA-256 of what the file that a reload reads said when it was put in
            force last, or could not be; empty if it never was.
        waiting: The SHA-256 of what it says that could not be put in force and is tried again, as
            what stood in the way may end; empty for none.
        given_up: The SHA-256 of certificates, keys, authorities and tokens that were taken back and
            may still be on disk, by path.
    """

    configuration: bytes = b""
    waiting: bytes = b""
    given_up: dict[str, bytes] = {}

    def put_in_force(self, content: bytes) -> None:
        """Take note of what the file says, which is in force; nothing before is tried again."""
        self.configuration, self.waiting = sha256(content), b""

    def rolled_back(self) -> None:
        """Try nothing again from before somebody went back."""
        if self.waiting:
            self.configuration, self.waiting = self.waiting, b""

    def give_up(self, files: Mapping[str, bytes], kept: Mapping[str, bytes]) -> None:
        """Take note of files that were taken back.

        Arguments:
            files: Their content, by path.
            kept: The content of what is in force again.
        """
        for path in files.keys() & kept.keys():
            if files[path] != kept[path]:
                self.given_up[path] = sha256(files[path])


def sha256(content: bytes) -> bytes:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).digest()
