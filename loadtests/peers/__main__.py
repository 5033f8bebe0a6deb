"""``python -m loadtests.peers``."""

from __future__ import annotations

from loadtests.peers.compare import TABLE

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.peers")
