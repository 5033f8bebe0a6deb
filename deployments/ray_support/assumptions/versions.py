"""Which releases of Ray Wakeful takes. Pure, and imports no Ray.

An older release than the oldest is refused. A newer one than those that were tried is taken, and it
is said which promises are off (``assumptions``). docs/install.md has the table.
"""

from __future__ import annotations

import re
from typing import Final, Literal

OLDEST: Final = (2, 59)
"""HAProxy marks dead servers down by calls, and a controller of Serve's can be given code of ours,
from here on.
"""

TRIED: Final = ((2, 59), (2, 60))
"""Minor releases on which all assumptions and the main job were tried, oldest first."""

Judgement = Literal["old", "tried", "new"]


def judge(version: str) -> Judgement:
    """What a release is, by its number; one whose number cannot be read is new."""
    found = re.match(r"(\d+)\.(\d+)", version)
    minor = (int(found[1]), int(found[2])) if found else (TRIED[-1][0] + 1, 0)
    if minor < OLDEST:
        return "old"
    return "tried" if minor in TRIED else "new"


def refusal(version: str) -> str:
    """Why a release is not taken; empty if it is."""
    if judge(version) != "old":
        return ""
    return (
        f"Ray {version} is installed, and Wakeful takes {_text(OLDEST)} or later. Run "
        f"`pip install 'ray[serve]>={_text(OLDEST)}'`."
    )


def hint(version: str) -> str:
    """What to say beside a failure, of a release that was not tried; empty for others."""
    if judge(version) != "new":
        return ""
    tried = " and ".join(map(_text, TRIED))
    return (
        f"Ray {version} is newer than those that Wakeful was tried with, {tried}. If that is the "
        f"reason: `pip install 'ray[serve]=={_text(TRIED[-1])}.*'`."
    )


def _text(minor: tuple[int, int]) -> str:
    return ".".join(map(str, minor))
