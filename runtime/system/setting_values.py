"""The values of settings, read from the texts of variables and options. Each function but
``to_number`` raises ``ValueError`` where a text is none of its values.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from runtime.system.cores import MAX_PROCESSES


def to_number(text: str | float) -> float:
    """Return the number that a text says, or NaN, which lies within no bounds."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def read_folder(text: str) -> Path:
    """A path, from the working folder; it need not be there."""
    if not text or "\0" in text:
        raise ValueError("not a folder")
    return Path.cwd() / text


def read_file(text: str) -> Path:
    """A path as it is written, of a file."""
    if not text or "\0" in text or text.endswith("/"):
        raise ValueError("not a file")
    return Path(text)


def read_path(text: str) -> Path:
    """A path, of a file, that starts in the working folder."""
    return read_file(text).absolute()


def read_existing_folder(text: str) -> Path:
    """A folder that is there."""
    folder = read_folder(text)
    try:
        is_there = folder.is_dir()
    except OSError:  # of a name that no folder has
        is_there = False
    if not is_there:
        raise ValueError("no such folder")
    return folder


def read_address(text: str) -> str:
    """A host name, or an address."""
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", text):
        raise ValueError("not an address")
    return text


def read_port(text: str) -> int:
    """From 1 to 65535."""
    port = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= port <= 65535:
        raise ValueError("not a port")
    return port


def read_hosts(text: str) -> int:
    """From 1 to 16."""
    count = read_spares(text)
    if not count:
        raise ValueError("not a number of hosts")
    return count


def read_workers(text: str) -> int:
    """Processes, from 1 to ``MAX_PROCESSES``."""
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= 2 else 0
    if not 1 <= count <= MAX_PROCESSES:
        raise ValueError("not a number of processes")
    return count


def read_spares(text: str) -> int:
    """From 0 to 16."""
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= 2 else -1
    if not 0 <= count <= 16:
        raise ValueError("not a number of processes")
    return count


def read_functions(text: str) -> int:
    """From 1 to 999,999."""
    count = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
    if not count:
        raise ValueError("not a number of functions")
    return count


def read_factor(text: str) -> float:
    """A finite number above 0."""
    factor = float(text)
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError("not above 0")
    return factor


def read_megabytes(text: str) -> int:
    """Whole megabytes, from 1."""
    size = int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else 0
    if size < 1:
        raise ValueError("not a size")
    return size


LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


def read_log_level(text: str) -> str:
    """One of ``LOG_LEVELS``, in any case."""
    if text.upper() not in LOG_LEVELS:
        raise ValueError("not a level")
    return text.upper()
