"""What a key is: a random text that a client has, of which only the digest is kept here, and what
it opens.

A key is ``wk_`` and 256 random bits, so that no guessing finds it, however quickly a guess is
tried. Its digest is therefore SHA-256, which takes a microsecond: a slow function (bcrypt, argon2)
is for passwords, which people choose; here it would slow down each call and protect nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from runtime.declaration.http_section import KeySpec, read_moment

PREFIX: Final = "wk_"
"""By which scanners of repositories find a key that was written down."""

RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class KeyDigest:
    """The digest of a key, or of the one that it takes the place of.

    Attributes:
        sha256: 64 hexadecimal digits, lower case.
        until: seconds since 1970 from which on it is refused; None: it is not rotated out.
    """

    sha256: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key, by what is known of it here.

    Attributes:
        name: what logs, metrics, traces and limits call it; one key has one name.
        digests: none where there is a subject.
        subject: common name of a client's certificate; empty: it has digests.
        functions: that it may call and see; None: all.
        scopes: of ``SCOPES``.
        rps: requests a second; None: any number.
        in_flight: requests at once; None: any number.
        expires_at: seconds since 1970 from which on it is refused; None: never.
    """

    name: str
    digests: tuple[KeyDigest, ...] = ()
    subject: str = ""
    functions: frozenset[str] | None = None
    scopes: frozenset[str] = frozenset({"call"})
    rps: float | None = None
    in_flight: int | None = None
    expires_at: float | None = None

    @classmethod
    def of(cls, spec: KeySpec, former: Iterable[KeyDigest] = ()) -> AccessKey:
        """Of a key as declared.

        Args:
            former: digests that are being rotated out.
        """
        return cls(
            name=spec.name,
            digests=(*map(KeyDigest, spec.sha256 or ()), *former),
            subject=spec.subject or "",
            functions=None if spec.functions is None else frozenset(spec.functions),
            scopes=frozenset(spec.scope),
            rps=spec.rps,
            in_flight=spec.in_flight,
            expires_at=None if spec.expires is None else read_moment(spec.expires),
        )

    def has_expired(self, now: float) -> bool:
        """Whether it is refused.

        Args:
            now: seconds since 1970.
        """
        return self.expires_at is not None and now >= self.expires_at


def make_key() -> str:
    """A new key."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest_of(key: str) -> str:
    """The SHA-256 of a key, as hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()
