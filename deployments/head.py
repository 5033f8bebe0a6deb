"""The process that starts Ray's head and goes: ``python -m deployments.head OPTIONS``, with the cluster's environment."""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.headoptions import HeadOptions
from deployments.rayprivate import start_head


def main(options: str, address_file: str) -> None:
    """Start the head, and leave its address in a file, whole or not at all."""
    address = start_head(HeadOptions.decode(options))
    draft = Path(address_file + ".new")
    draft.write_text(address, encoding="utf-8")
    draft.replace(address_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
