"""``python -m loadtests.bounds``."""

from __future__ import annotations

from loadtests.bounds.command import main

if __name__ == "__main__":
    main(prog_name="python -m loadtests.bounds")
