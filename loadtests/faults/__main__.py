"""``python -m loadtests.faults``."""

from __future__ import annotations

from loadtests.faults.scenarios import TABLE

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.faults")
