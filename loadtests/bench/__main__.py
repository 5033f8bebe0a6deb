"""``python -m loadtests.bench``."""

from __future__ import annotations

from loadtests.bench.throughput import TABLE

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.bench")
