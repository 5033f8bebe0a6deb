"""All keys of a server: those that its file declares, and those of the file of keys, which is read
again when it has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from runtime.declaration.access.key_file import read_keys
from runtime.declaration.access.keys import AccessKey
from runtime.errors import DeclarationError, Problem
from runtime.system.messages import quote


class KeyTable:
    """Used in one thread.

    Args:
        declared: keys of the file that declares functions.
        path: the file of keys.

    Mutable state: ``_seen``, how the file was when it was read last; ``_was_read``, whether it is
    known what was in it then.
    """

    def __init__(self, declared: Iterable[AccessKey], path: Path) -> None:
        self.declared = tuple(declared)
        self.path = path
        self._seen: object = None
        self._was_read = False

    def __repr__(self) -> str:
        return f"<KeyTable: {len(self.declared)} declared, {self.path}>"

    def is_like(self, other: KeyTable) -> bool:
        """Whether both have the same declared keys and the same file."""
        return (self.declared, self.path) == (other.declared, other.path)

    def read(self) -> tuple[AccessKey, ...]:
        """The keys as they are now.

        Raises:
            DeclarationError: the file of keys cannot be read or trusted, or has a key that is
                declared, too.
        """
        self._seen = _state(self.path)  # before it is read: a change afterwards is seen
        self._was_read = True
        try:
            stored = read_keys(self.path)
        except DeclarationError as error:
            # it may pass, and the file be as it was: it is read until it was
            self._was_read = not isinstance(error.__cause__, OSError)
            raise
        if problems := find_shared(self.declared, stored, str(self.path)):
            raise DeclarationError(problems)
        return (*self.declared, *stored)

    def has_changed(self) -> bool:
        """Whether the keys may be others than those that were read; always, where none could be."""
        return not self._was_read or _state(self.path) != self._seen


def find_shared(
    declared: Sequence[AccessKey], stored: Sequence[AccessKey], file: str
) -> list[Problem]:
    """What keys of the file of keys have in common with those that are declared.

    Args:
        file: the file of keys, for the messages.
    """
    names = {key.name for key in declared}
    digests = {one.sha256: key.name for key in declared for one in key.digests}
    subjects = {key.subject for key in declared if key.subject}
    problems = []
    for index, key in enumerate(stored):
        if key.name in names:
            what = f"a key {quote(key.name)} is declared as well"
        elif key.subject in subjects:
            what = f"the certificate of {quote(key.name)} is declared as well"
        elif found := next((one.sha256 for one in key.digests if one.sha256 in digests), None):
            what = (
                f"{quote(key.name)} is the same key as {quote(digests[found])}, which is declared"
            )
        else:
            continue
        problems.append(Problem(file, 0, f"keys[{index}]", f"{what}. Remove one of the two."))
    return problems


def _state(path: Path) -> object:
    """What is another after each change of a file; None where nothing is."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
