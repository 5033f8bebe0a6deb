"""What is assumed of other programs, looked at in their newest releases: `make contracts`.

    python -m tests.contracts                    # whatever is newest on the index
    python -m tests.contracts uvicorn==0.50.2    # that one

Ends with 1 where something is otherwise, with a sentence for each.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from tests.contracts.environments import LayeredEnvironment
from tests.contracts.walls import WALLS

LOOK_S = 120


def main(wanted: list[str]) -> int:
    """Look at each wall, or at those of the packages that are named."""
    status = 0
    for wall in WALLS:
        requirements = [one for one in wanted if re.split(r"[=<>~!]", one)[0] == wall.package]
        if wanted and not requirements:
            continue
        with tempfile.TemporaryDirectory() as folder:
            environment = LayeredEnvironment.make(
                Path(folder), *wall.options, *(requirements or [wall.package])
            )
            look = ("-m", "tests.contracts.look", wall.package, wall.assumptions)
            done = environment.run(*look, timeout_s=LOOK_S)
        print(done.stdout + done.stderr, end="")
        status = status or done.returncode
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
