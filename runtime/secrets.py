"""Values that a declaration names (``${NAME}``) and does not hold: where they come from, and how none of them gets out.

They are known to the process that reads the file (its environment, or ``--secrets FILE``) and to those who construct the stage, and they
are never part of a declaration: what is printed, hashed, sent as ``args`` or kept on a disk says ``${NAME}``. A declaration that goes to
another process carries beside each name its *mark*, a keyed hash of the value: another value is another mark, so that the function is
another version, and who has no key cannot guess the value from it. Whoever carries the values there carries them by mark.
"""

from __future__ import annotations

import hashlib
import hmac
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from runtime.declaration.references import is_name
from runtime.errors import DeclarationError, Problem

MAX_BYTES: Final = 1 << 20
"""Largest secrets file read."""


class Secrets:
    """Values by name, and by mark.

    Args:
        named: what the environment, or a file, gives; not copied.
        marked: what was carried here for declarations with marks.

    Mutable state: ``_marked`` grows by ``learn``; ``_told`` (values that were asked for, with their names) is what ``hide`` hides.
    """

    def __init__(self, named: Mapping[str, str] | None = None, marked: Mapping[str, str] | None = None) -> None:
        self._named = {} if named is None else named
        self._marked = dict(marked or {})
        self._told: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._told)} asked for, {len(self._marked)} carried here>"

    def find(self, name: str, mark: str = "") -> str | None:
        """A value; None, and so for an empty one, if it is not known here.

        Args:
            mark: of a declaration that has been sent from elsewhere: then this value and no other of the name.
        """
        value = self._marked.get(mark) if mark else self._named.get(name)
        if value:
            self._told[value] = name
        return value or None

    def missing(self, name: str, mark: str = "") -> str:
        """The sentence for one that is not known."""
        if mark:
            return f"${{{name}}} is not known here any more. Run `wakeful up` again, which brings it."
        what = "is empty" if name in self._named else "is not set"
        return f"${{{name}}} {what}. Set it in the environment of this command, or write it in a file and add `--secrets FILE`."

    def learn(self, marked: Mapping[str, str]) -> None:
        """Takes values that were carried here, by mark."""
        self._marked.update(marked)

    def given(self, names: Iterable[str] = ()) -> dict[str, dict[str, str]]:
        """What has been asked for, ``names`` now, as arguments for a process that is to know it too; in the clear."""
        for name in names:
            self.find(name)
        return {"named": {name: value for value, name in self._told.items()}, "marked": dict(self._marked)}

    def hide(self, text: str) -> str:
        """The text with ``${NAME}`` for each value that was asked for, as it is or as Python writes it in quotes."""
        for value in sorted(self._told, key=len, reverse=True):  # so that none is cut by another that is a part of it
            for form in {value, repr(value)[1:-1]}:
                text = text.replace(form, f"${{{self._told[value]}}}")
        return text


class Undisclosed(Secrets):
    """For those who only look at a declaration: every name is there, and stands for itself."""

    def find(self, name: str, mark: str = "") -> str | None:
        """The name, as it is written."""
        return f"${{{name}}}"


def mark(key: bytes, name: str, value: str) -> str:
    """The mark of a value; it begins with ``key_mark``."""
    return key_mark(key) + hmac.digest(key, f"{name}\0{value}".encode(errors="surrogateescape"), hashlib.sha256).hex()[:32]


def key_mark(key: bytes) -> str:
    """What all marks of a key begin with."""
    return hmac.digest(key, b"", hashlib.sha256).hex()[:8] + "-"


def owner_of(mark: str) -> str:
    """The ``key_mark`` that a mark begins with."""
    return mark.partition("-")[0] + "-"


def marks(find: Callable[[str], str | None], names: Iterable[str], key: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """The marks of those names that are known, by name, and their values, by mark."""
    values = {name: value for name in names if (value := find(name))}
    by_name = {name: mark(key, name, value) for name, value in values.items()}
    return by_name, {by_name[name]: value for name, value in values.items()}


def read(path: Path) -> dict[str, str]:
    """The values of a file of ``NAME=value`` lines, as dotenv has them: ``#`` comments, quotes, ``export``; nothing is expanded.

    Raises:
        DeclarationError: unreadable, above ``MAX_BYTES``, not UTF-8, or with every line that is wrong; no value is repeated in it.
    """
    from dotenv.parser import parse_stream  # by those who have such a file only

    file = str(path)
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DeclarationError([Problem(file, 0, "", f"cannot be read: {error.strerror}.")]) from error
    except UnicodeDecodeError:
        raise DeclarationError([Problem(file, 0, "", "it is not UTF-8.")]) from None
    if len(text) > MAX_BYTES:
        raise DeclarationError([Problem(file, 0, "", f"larger than {MAX_BYTES >> 20} MiB, the most that is read.")])
    values: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.key is None and not binding.error:
            continue
        if binding.key is None or binding.value is None or not is_name(binding.key):
            problems.append(Problem(file, line, "", "this is not NAME=value, with letters, digits and '_' in the name."))
        elif binding.key in values:
            problems.append(Problem(file, line, binding.key, "stands here a second time. Delete one of the two."))
        else:
            values[binding.key] = binding.value
    if problems:
        raise DeclarationError(problems)
    return values
