"""``python -m loadtests.faults``."""

from __future__ import annotations

from loadtests.faults.command import main

if __name__ == "__main__":
    main(prog_name="python -m loadtests.faults")
