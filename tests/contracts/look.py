"""What is assumed of one program, looked at in the release that this environment has.

python -m tests.contracts.look uvicorn runtime.http.transport.contract:ASSUMPTIONS
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

from runtime.system.assumptions import faults


def main(package: str, place: str) -> int:
    """Print what is otherwise; 1 where something is."""
    module, _, name = place.partition(":")
    assumptions = getattr(importlib.import_module(module), name)
    found = faults(assumptions)
    holds = len(assumptions) - len(found)
    print(f"{package} {version(package)}: {holds} of {len(assumptions)} assumptions hold")
    for fault in found:
        print(f"  {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
