"""The page of the console and its files, as they are served: named by what is in them, compressed
once, and with a policy that lets nothing come from elsewhere.

The page is modules of JavaScript as they were written, without a build step. They name each other
by their places (``../api.js``) and libraries by words (``preact``), which an import map in the page
leads to the files' names; the policy has the map's hash, since it stands in the page itself.

Sources: HTML, section 8.1.6 (import maps); Content Security Policy Level 3, section 6.7 (hashes);
RFC 9110, section 12.5.3 (Accept-Encoding).
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from backports import zstd

from runtime.http.bodies.accept import read_ranges, weigh

ASSETS: Final = Path(__file__).parent / "assets"

PAGE: Final = "console.html"
WHERE: Final = "console/assets/"
"""Where the files are, seen from the page."""

VENDOR: Final = "vendor/"
"""Below it are libraries, which modules name by a word."""

MEDIA_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        ".css": "text/css",
        ".html": "text/html",
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".woff2": "font/woff2",
    }
)
"""Of files that are served, by their endings; others (licences) are not."""

_IMPORT_MAP: Final = re.compile(r'<script type="importmap">\s*</script>')
_NAMED: Final = re.compile(rf"{WHERE}([\w./@-]+)")
_LIBRARY: Final = re.compile(r"(?:\.(?:min|module|esm|iife|standalone))*\.m?js$", re.IGNORECASE)

_COMPRESSED: Final = frozenset({".css", ".html", ".js", ".mjs", ".svg"})
ZSTD_LEVEL: Final = 19
GZIP_LEVEL: Final = 9


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A file in each coding in which it is sent; ``""`` is none, and the others come first that
    are rather sent.
    """

    media_type: str
    codings: Mapping[str, bytes]

    @classmethod
    def of(cls, content: bytes, suffix: str) -> ServedFile:
        """Of a file with this ending."""
        codings = {"": content}
        if suffix in _COMPRESSED:
            codings = {
                "zstd": zstd.compress(content, level=ZSTD_LEVEL),
                "gzip": gzip.compress(content, GZIP_LEVEL, mtime=0),
                "": content,
            }
        return cls(MEDIA_TYPES[suffix], codings)

    def choose(self, accept_encoding: Sequence[str]) -> str:
        """Return the coding for a client that takes these."""
        ranges = read_ranges(accept_encoding)
        return next(
            (coding for coding in self.codings if coding and weigh(coding, ranges)[0] > 0), ""
        )


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """The page.

    Attributes:
        html: the page itself.
        policy: its Content-Security-Policy.
        files: by the names that the page has for them.
        digest: of all of it.
    """

    html: ServedFile
    policy: str
    files: Mapping[str, ServedFile]
    digest: str


@functools.cache
def console_page() -> ConsolePage:
    """Return the page of this process: read and compressed once, which takes a tenth of a
    second.
    """
    return make_page(ASSETS)


def make_page(folder: Path) -> ConsolePage:
    """Return the page that lies in a folder."""
    contents = dict(_read(folder))
    page = contents.pop(PAGE).decode()
    names = {name: _hashed_name(name, content) for name, content in contents.items()}
    files = {
        names[name]: ServedFile.of(content, Path(name).suffix) for name, content in contents.items()
    }
    found_map = import_map(names)
    html = _IMPORT_MAP.sub(
        lambda _: f'<script type="importmap">{found_map}</script>', _rename(page, names)
    ).encode()
    digest = hashlib.sha256(b"".join([html, *(name.encode() for name in sorted(files))]))
    return ConsolePage(
        ServedFile.of(html, ".html"),
        policy_of(found_map if _IMPORT_MAP.search(page) else ""),
        files,
        digest.hexdigest()[:16],
    )


def _read(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in MEDIA_TYPES and path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def _hashed_name(name: str, content: bytes) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{suffix}"


def _rename(page: str, names: Mapping[str, str]) -> str:
    return _NAMED.sub(lambda found: WHERE + names.get(found[1], found[1]), page)


def import_map(names: Mapping[str, str]) -> str:
    """Return the import map, as JSON.

    Args:
        names: of the files, by those that they have in their folder.
    """
    imports = {}
    for name, served in names.items():
        if not name.endswith((".js", ".mjs")):
            continue
        imports[f"./{WHERE}{name}"] = f"./{WHERE}{served}"
        if name.startswith(VENDOR):
            imports[_LIBRARY.sub("", name.removeprefix(VENDOR))] = f"./{WHERE}{served}"
    return json.dumps({"imports": imports}, separators=(",", ":"))


def policy_of(script: str) -> str:
    """Return the policy of a page.

    Args:
        script: that stands in the page itself; empty: none does.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = f" 'sha256-{digest}'" if script else ""
    return (
        f"default-src 'none'; script-src 'self'{own}; style-src 'self'; font-src 'self';"
        " img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
