"""HAProxy's configuration language, as far as a file of another program is read here: sections,
lines, words.

A section begins with a line whose first word is one of ``SECTIONS``; a line is a directive of the
section, its first words say which; indentation means nothing. Source: HAProxy 2.8, configuration
manual, section 2.1.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

SECTIONS: Final = frozenset(
    {
        *("global", "defaults", "frontend", "backend", "listen", "peers", "resolvers", "mailers"),
        *("userlist", "program", "cache", "http-errors", "ring", "log-forward", "fcgi-app"),
        *("log-profile", "crt-store", "traces", "acme"),
    }
)
"""Those of later versions included: the system's HAProxy may be one."""

BLANKS: Final = " \t\r"
"""Python's own would have letters among them that HAProxy takes for parts of words."""

PLAIN: Final = frozenset(f"{string.ascii_letters}{string.digits}/@._-+~")
"""What is no more than itself outside of quotes, and more than enough for paths."""

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a file.

    Attributes:
        kind: ``frontend``.
        name: empty for ``global`` and ``defaults``.
        lines: its directives, in their order, without comments.
    """

    kind: str
    name: str
    lines: tuple[str, ...]

    @property
    def head(self) -> str:
        """The line that begins it."""
        return f"{self.kind} {self.name}".rstrip()

    def words(self) -> Iterator[list[str]]:
        """The words of each directive."""
        return map(words_of, self.lines)


def words_of(line: str) -> list[str]:
    """Return the words of a line; what is in quotes may be several."""
    return [word for word in line.replace("\t", " ").split(" ") if word]


def parse(text: str) -> tuple[Section, ...]:
    """Return the sections of a file. Lines before the first one, which HAProxy would refuse, are
    left out.
    """
    found: list[tuple[str, list[str]]] = []
    for line in (line.strip(BLANKS) for line in text.split("\n")):
        if not line or line.startswith("#"):
            continue
        if words_of(line)[0] in SECTIONS:
            found.append((line, []))
        elif found:
            found[-1][1].append(line)
    return tuple(_section(head, lines) for head, lines in found)


def _section(head: str, lines: Iterable[str]) -> Section:
    kind, *name = words_of(head)
    return Section(kind, " ".join(name), tuple(lines))


def write(sections: Iterable[Section]) -> str:
    """Return the text of a file with these sections."""
    return "".join(
        f"{section.head}\n" + "".join(f"    {line}\n" for line in section.lines)
        for section in sections
    )


def quote_word(text: object) -> str:
    """Return a text, the path of a file, as one word that means itself."""
    plain = str(text)
    if PLAIN.issuperset(plain):
        return plain
    return "'" + plain.replace("'", "'\\''") + "'"


def split_address(address: str) -> tuple[str, str]:
    """Return host and port of ``HOST:PORT``, of which either may be empty."""
    host, _, port = address.rpartition(":")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether this machine alone reaches it."""
    bare = host.strip("[]")
    return bare.startswith("127.") or bare in ("localhost", "::1")
