"""The register of the dead: each death is noticed by whoever looks first, told to the owner, and kept for ten minutes.

The ending of a file says how far that is, ``<key>`` being the process's:

    <key>.work, .fault   its records; it lives as long as somebody holds the lock
    <key>.dead           its death, written down: what the records mean is decided once, for the system's counters go on
    <key>.told           the same, and the owner knows
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from runtime.witness.lastwords import Death, last_word
from runtime.witness.recorder import remove

if sys.platform != "win32":
    import fcntl

KEPT_S: Final = 600.0
"""A death counts for so long, against functions and against rows."""

MOST: Final = 100
"""Deaths kept; of more the latest."""

LOOKS: Final = 3
"""As often is the folder listed anew when others change it meanwhile."""

BIRTH_S: Final = 60.0
"""A file that is younger may belong to a process that has not taken its lock yet."""


def registered(folder: Path, known: Mapping[str, Death], now: float) -> dict[str, Death]:
    """The deaths of the last ten minutes by key, told or not; the files of older ones go.

    Args:
        known: from the last time: they are not read again.
        now: seconds since the epoch.

    Raises:
        OSError: the folder cannot be read. In one that is not there nobody has died.
    """
    for _ in range(LOOKS):
        with contextlib.suppress(FileNotFoundError):
            return _kept(folder, _look(folder, known, now), now)
    return dict(known)


def last_words(folder: Path) -> list[Death]:
    """The deaths that the owner has not been told of; again and again until ``told``."""
    for unfinished in folder.glob("*.new"):
        with contextlib.suppress(FileNotFoundError):
            if _is_dead(unfinished) and time.time() - unfinished.stat().st_mtime > BIRTH_S:
                unfinished.unlink()
    deaths = registered(folder, {}, time.time())
    return [death for key, death in sorted(deaths.items()) if not (folder / f"{key}.told").exists()]


def told(folder: Path, key: str) -> None:
    """The owner knows of this death (``Death.key``)."""
    with contextlib.suppress(FileNotFoundError):  # another has told him
        (folder / f"{key}.dead").rename(folder / f"{key}.told")


def _look(folder: Path, known: Mapping[str, Death], now: float) -> dict[str, Death]:
    """All deaths that stand there.

    Raises:
        FileNotFoundError: a file went after it was listed; if another has noticed that death, it stands there by another name.
    """
    deaths: dict[str, Death] = {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        key, _, ending = name.rpartition(".")
        death = None
        if ending in ("dead", "told"):
            death = known.get(key) or _read(folder / name)
        elif ending == "work" and key not in deaths and _is_dead(folder / name):
            death = known.get(key) or _notice(folder / name, now)
        if death is not None:
            deaths[key] = death
    return deaths


def _kept(folder: Path, deaths: dict[str, Death], now: float) -> dict[str, Death]:
    """Those that still count; the others' files go."""
    latest = sorted(deaths, key=lambda key: deaths[key].at)[-MOST:]
    kept = {key: deaths[key] for key in latest if deaths[key].at > now - KEPT_S}
    for key in deaths.keys() - kept.keys():
        for ending in ("dead", "told", "work", "fault"):
            (folder / f"{key}.{ending}").unlink(missing_ok=True)
    return kept


def _notice(work: Path, now: float) -> Death | None:
    """Writes a death down. Two may do so at a time; both write the same."""
    death = last_word(work, now)
    if death is not None:
        with contextlib.suppress(OSError):  # a full disk: it is noticed again, and counts
            draft = work.with_suffix(f".draft-{os.getpid()}")
            draft.write_text(json.dumps(asdict(death)))
            draft.replace(work.with_suffix(".dead"))
            remove(work)
    return death


def _read(path: Path) -> Death | None:
    """None for what another version of this wrote."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        of: dict[str, Any] = json.loads(path.read_bytes())
        of |= {name: tuple(value) for name, value in of.items() if isinstance(value, list)}
        return Death(**of)
    return None


def _is_dead(path: Path) -> bool:
    """Whether nobody holds the file any more."""
    if sys.platform == "win32":
        return False
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
