"""Secrets: values that a declaration names (``${NAME}``) and does not hold.

The process that reads the file knows them (from its environment, or ``--secrets FILE``), and so do
the processes that construct the stage. They are never part of a declaration: what is printed,
hashed, sent as ``args`` or kept on a disk says ``${NAME}``. A declaration that goes to another
process carries with each name the *digest* of its value, a keyed hash: another value has another
digest, so the function is another version, and without the key the value cannot be guessed from it.
The values themselves travel by digest.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from runtime.errors import DeclarationError, Problem

MAX_BYTES: Final = 1 << 20
"""Largest secrets file read."""


class Secrets:
    """Values by name, and by mark.

    Args:
        named: what the environment, or a file, gives; not copied.
        marked: what was carried here for declarations with marks.

    Mutable state: ``_marked`` grows by ``learn``; ``_told`` (values that were asked for, with their
    names) is what ``hide`` hides.
    """

    def __init__(
        self, named: Mapping[str, str] | None = None, marked: Mapping[str, str] | None = None
    ) -> None:
        self._named = {} if named is None else named
        self._marked = dict(marked or {})
        self._told: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<Secrets: {len(self._told)} asked for, {len(self._marked)} carried here>"

    def find(self, name: str, mark: str = "") -> str | None:
        """A value; None, and so for an empty one, if it is not known here.

        Args:
            mark: of a declaration that has been sent from elsewhere: then this value and no other
                of the name.
        """
        value = self._marked.get(mark) if mark else self._named.get(name)
        if value:
            self._told[value] = name
        return value or None

    def missing(self, name: str, mark: str = "") -> str:
        """The sentence for one that is not known."""
        if mark:
            return (
                f"${{{name}}} is not known here any more. Run `wakeful up` again, which brings it."
            )
        what = "is empty" if name in self._named else "is not set"
        return (
            f"${{{name}}} {what}. Set it in the environment of this command, or write it in a file"
            " and add `--secrets FILE`."
        )

    def learn(self, marked: Mapping[str, str]) -> None:
        """Takes values that were carried here, by mark."""
        self._marked.update(marked)

    def given(self, names: Iterable[str] = ()) -> dict[str, dict[str, str]]:
        """What has been asked for, ``names`` now, as arguments for a process that is to know it
        too; in the clear.
        """
        for name in names:
            self.find(name)
        return {
            "named": {name: value for value, name in self._told.items()},
            "marked": dict(self._marked),
        }

    @property
    def is_any_told(self) -> bool:
        """Whether ``hide`` has anything to hide."""
        return bool(self._told)

    def hide(self, text: str) -> str:
        """The text with ``${NAME}`` for each value that was asked for, as it is or as Python or
        JSON write it in quotes.
        """
        # so that none is cut by another that is a part of it
        for value in sorted(self._told, key=len, reverse=True):
            quoted = repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False)
            for form in {value, *(one[1:-1] for one in quoted)}:
                text = text.replace(form, f"${{{self._told[value]}}}")
        return text


class PlaceholderSecrets(Secrets):
    """Secrets for reading a declaration only: every name is there, and is its own value."""

    def find(self, name: str, mark: str = "") -> str | None:
        """The name, as it is written."""
        return f"${{{name}}}"


def secret_digest(key: bytes, name: str, value: str) -> str:
    """The mark of a value; it begins with ``key_digest``."""
    return (
        key_digest(key)
        + hmac.digest(
            key, f"{name}\0{value}".encode(errors="surrogateescape"), hashlib.sha256
        ).hex()[:32]
    )


def key_digest(key: bytes) -> str:
    """What all marks of a key begin with."""
    return hmac.digest(key, b"", hashlib.sha256).hex()[:8] + "-"


CALLS: Final = b"wakeful calls of functions by functions"


def derive_secret(token: str) -> str:
    """The secret that calls of functions by functions carry, where the cluster has this token; the
    token cannot be derived from it.
    """
    return hmac.digest(token.encode(), CALLS, hashlib.sha256).hex()


def digests_of(
    find: Callable[[str], str | None], names: Iterable[str], key: bytes
) -> tuple[dict[str, str], dict[str, str]]:
    """The marks of those names that are known, by name, and their values, by mark."""
    values = {name: value for name in names if (value := find(name))}
    by_name = {name: secret_digest(key, name, value) for name, value in values.items()}
    return by_name, {by_name[name]: value for name, value in values.items()}


def read_secrets(path: Path) -> dict[str, str]:
    """The values of a file of ``NAME=value`` lines, as dotenv has them: ``#`` comments, quotes,
    ``export``; nothing is expanded.

    Raises:
        DeclarationError: unreadable, above ``MAX_BYTES``, not UTF-8, or with every line that is
            wrong; no value is repeated in it.
    """
    from dotenv.parser import parse_stream  # only where there is such a file

    file = str(path)
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DeclarationError(
            [Problem(file, 0, "", f"cannot be read: {error.strerror}.")]
        ) from error
    except UnicodeDecodeError:
        raise DeclarationError([Problem(file, 0, "", "it is not UTF-8.")]) from None
    if len(text) > MAX_BYTES:
        raise DeclarationError(
            [Problem(file, 0, "", f"larger than {MAX_BYTES >> 20} MiB, the most that is read.")]
        )
    values: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.key is None and not binding.error:
            continue
        if binding.key is None or binding.value is None or not is_name(binding.key):
            problems.append(
                Problem(
                    file,
                    line,
                    "",
                    "this is not NAME=value, with letters, digits and '_' in the name.",
                )
            )
        elif binding.key in values:
            problems.append(
                Problem(
                    file, line, binding.key, "stands here a second time. Delete one of the two."
                )
            )
        else:
            values[binding.key] = binding.value
    if problems:
        raise DeclarationError(problems)
    return values


_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"


REFERENCE: Final = re.compile(rf"\$\$\{{|\$\{{(?P<name>{_NAME})\}}|\$\{{")


def is_name(text: str) -> bool:
    """Whether a reference can name it: letters, digits and ``_``, no digit first."""
    return re.fullmatch(_NAME, text) is not None


def find_references(
    value: Any, loc: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every name in a value, with the place of the text that it stands in."""
    for place, text in texts_in(value, loc):
        yield from ((place, found["name"]) for found in REFERENCE.finditer(text) if found["name"])


def reference_names(values: Iterable[Any]) -> list[str]:
    """Every name in some values, once, in their order."""
    return list(dict.fromkeys(name for value in values for _, name in find_references(value)))


def fill_references(value: Any, find: Callable[[str], str]) -> Any:
    """The value with what ``find`` gives for each name; the value itself stays as it is."""
    if isinstance(value, str):
        return (
            REFERENCE.sub(lambda found: find(found["name"]) if found["name"] else "${", value)
            if "${" in value
            else value
        )
    if isinstance(value, dict):
        return {key: fill_references(part, find) for key, part in value.items()}
    return [fill_references(part, find) for part in value] if isinstance(value, list) else value


def texts_in(value: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield loc, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from texts_in(part, (*loc, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from texts_in(part, (*loc, index))
