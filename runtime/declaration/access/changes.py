"""How a list of keys is changed: added to, taken from, a key rotated. Pure; the list itself stays
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.declaration.http_section import MAX_DIGESTS, MAX_KEYS
from runtime.errors import WakefulError
from runtime.system.messages import did_you_mean, quote

Keys = tuple[AccessKey, ...]

DAY_S: Final = 86_400.0

KEEP_S: Final = DAY_S
"""How long a key that was rotated is taken beside the new one: a day, in which clients learn it."""


class KeyRefused(WakefulError):
    """A change of the keys is not made."""

    code = "key"
    fault = "operator"


def with_key(keys: Sequence[AccessKey], new: AccessKey) -> Keys:
    """The keys and one more.

    Raises:
        KeyRefused: its name is another's, or there are ``MAX_KEYS``.
    """
    if any(one.name == new.name for one in keys):
        raise KeyRefused(
            f"there is a key {quote(new.name)}. Take another name, or `wakeful keys rotate` for"
            " another key of this name."
        )
    if len(keys) >= MAX_KEYS:
        raise KeyRefused(f"there are {MAX_KEYS} keys, the most that are kept. Remove some.")
    return (*keys, new)


def without_key(keys: Sequence[AccessKey], name: str) -> Keys:
    """The keys without one.

    Raises:
        KeyRefused: there is none of that name.
    """
    found = _find(keys, name)
    return tuple(one for one in keys if one is not found)


def with_rotated(
    keys: Sequence[AccessKey], name: str, sha256: str, now: float, keep_s: float
) -> Keys:
    """The keys, one of them with a new digest; what it had is taken for a while.

    Args:
        now: seconds since 1970.
        keep_s: how long the former key is taken; 0: it is refused at once.

    Raises:
        KeyRefused: there is none of that name, it is a certificate's, or it has too many former
            keys.
    """
    found = _find(keys, name)
    if found.subject:
        raise KeyRefused(
            f"{quote(name)} is the name of a certificate's subject, which has no key to rotate."
        )
    until = now + keep_s
    former = tuple(
        replace(one, until=until if one.until is None else min(one.until, until))
        for one in found.digests
        if keep_s > 0 and (one.until is None or now < one.until)
    )
    if len(former) >= MAX_DIGESTS:
        raise KeyRefused(
            f"{quote(name)} has {len(former)} former keys that are still taken. Rotate it with"
            " `--keep 0s`, which refuses them, or wait."
        )
    rotated = replace(found, digests=(KeyDigest(sha256), *former))
    return tuple(rotated if one is found else one for one in keys)


def without_spent(keys: Sequence[AccessKey], now: float) -> Keys:
    """The keys without the digests that are refused since their rotation. A key that has expired
    stays: `wakeful keys list` shows that it has.

    Args:
        now: seconds since 1970.
    """
    return tuple(
        replace(
            key,
            digests=tuple(one for one in key.digests if one.until is None or now < one.until),
        )
        for key in keys
    )


def _find(keys: Sequence[AccessKey], name: str) -> AccessKey:
    found = next((one for one in keys if one.name == name), None)
    if found is None:
        meant = did_you_mean(name, [one.name for one in keys])
        raise KeyRefused(f"there is no key {quote(name)}{meant or '.'}")
    return found
