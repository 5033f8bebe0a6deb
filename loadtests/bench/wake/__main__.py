"""``python -m loadtests.bench.wake``."""

from __future__ import annotations

from loadtests.bench.wake.command import main

if __name__ == "__main__":
    main(prog_name="python -m loadtests.bench.wake")
