"""What each supported Ray writes for HAProxy; made by ``__main__``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent

FOLDER: Final = "/hap"
"""What the files say for the folder of HAProxy's files."""

RELEASES: Final = tuple(sorted(path.name for path in HERE.glob("ray_*")))


def ray_file(release: str, case: str) -> str:
    """The text of one: of ``ray_2_60``, ``shop``."""
    return (HERE / release / f"{case}.cfg").read_text()
