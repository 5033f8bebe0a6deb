"""A stage that does what the tests of the console want to see."""

from __future__ import annotations

import sys
from pathlib import Path


class Fragile:
    """Does not load while a file is there, fails at one text, and writes what it is given."""

    def __init__(self, broken: str) -> None:
        if Path(broken).exists():
            raise RuntimeError("the crystal is broken; put it together again.")

    def __call__(self, text: str, times: int = 1) -> dict[str, str]:
        """The text, so many times."""
        print("heard", text)
        if text == "fail":
            print("that was too much", file=sys.stderr)
            raise ValueError("a text that breaks it")
        return {"said": " ".join([text] * times)}
