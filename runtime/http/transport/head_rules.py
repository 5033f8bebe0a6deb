"""Which heads are refused because two programs could read two different requests out of them: a
proxy in front lets one pass, and the server behind it answers the other.

The parser refuses what is no head of HTTP, and lengths that contradict each other or the chunks.
What is left to say is here, as a decision about a head that it has read.

Source: RFC 9112, sections 2.3 (versions), 3.2 (``Host``), 6.1 (``Transfer-Encoding``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SPOKEN: Final = ("1.1", "1.0")
"""Versions that are answered. A line that says ``HTTP/2.0`` or ``HTTP/0.9`` is read by some as 1.1,
by others not at all.
"""


def find_ambiguity(
    version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> str | None:
    """Return what could be read in two ways, in words with none of the client's; None: nothing.

    Args:
        version: of HTTP, such as ``1.1``.
        target: as it stands in the request line.
        headers: names in lower case.
    """
    if version not in SPOKEN:
        return "HTTP/1.1 is spoken here, and HTTP/1.0; ask in one of them."
    hosts = [value for name, value in headers if name == b"host"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(hosts) > 1:
        return "`host` stands in it more than once."
    if codings and version == "1.0":
        return "HTTP/1.0 has no `transfer-encoding`."
    if codings and (len(codings) > 1 or codings[0].strip(b" \t").lower() != b"chunked"):
        return "the one `transfer-encoding` that is read is `chunked`, by itself."
    if hosts and not target.startswith(b"/"):
        named = _authority(target)
        if named is not None and named not in _spellings(hosts[0]):
            return "the target names another host than `host`."
    return None


def _authority(target: bytes) -> bytes | None:
    """Return the host of a target in absolute form, in lower case; None: it is in another form."""
    scheme, mark, rest = target.partition(b"://")
    if not mark or not scheme.isalpha():
        return None
    return rest.partition(b"/")[0].partition(b"?")[0].lower()


def _spellings(host: bytes) -> tuple[bytes, bytes]:
    """Return a host with and without the port that HTTP has by itself."""
    host = host.strip(b" \t").lower()
    bare = host.removesuffix(b":80")
    return bare, bare + b":80"
