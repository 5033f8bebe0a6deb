"""``python -m loadtests.bench``."""

from __future__ import annotations

from loadtests.bench.command import main

if __name__ == "__main__":
    main(prog_name="python -m loadtests.bench")
