"""``python -m loadtests.fuzz``."""

from __future__ import annotations

from loadtests.fuzz.command import main

if __name__ == "__main__":
    main(prog_name="python -m loadtests.fuzz")
