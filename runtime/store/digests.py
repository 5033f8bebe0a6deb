"""The SHA-256 of a file by its path, read once for each state of it: large files are remembered on disk, by size and time of change.

    <models>/.digests/<hash of the path>.json     [sha256, size in bytes, time of change in ns]

As everywhere here, a file of the same size and time is taken for the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Final

from runtime.store.files import place, sha256_of, workplace

FOLDER: Final = ".digests"

LARGE_BYTES: Final = 1 << 20
"""From this size on a digest is kept on disk: reading a smaller file takes as long as looking that up (0.6 ms)."""


def sha256_as_of(path: Path, models: Path) -> str:
    """Hex digest of a file as it is now; in the time of one look at it where that was asked before.

    Args:
        models: the folder of models, which keeps the digests of large files; one that cannot be written keeps none.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _sha256_as_of(path, status.st_size, status.st_mtime_ns, models)


@functools.lru_cache(maxsize=4096)
def _sha256_as_of(path: Path, size_bytes: int, changed_ns: int, models: Path) -> str:
    """Once a process for each state of a file: a function that wakes again does not wait for it."""
    if size_bytes < LARGE_BYTES:
        return sha256_of(path)
    kept = models / FOLDER / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:24]}.json"
    try:
        digest, *state = json.loads(kept.read_bytes())
        if state == [size_bytes, changed_ns] and isinstance(digest, str):
            return digest
    except (OSError, ValueError, TypeError):  # none, or a foreign one
        pass
    digest = sha256_of(path)
    with contextlib.suppress(OSError), workplace(models / FOLDER) as partial:
        draft = partial / "digest"
        draft.write_text(json.dumps([digest, size_bytes, changed_ns]))
        place(draft, kept)
    return digest
