"""A short ``steady`` and ``spike`` of two shipped functions with their verdicts: ``make load``.

python -m loadtests.loadtest.short             # exit status: the worst of the two
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtests import declare
from loadtests.server import script

FUNCTIONS = ("embed", "forecast")

SLEEP_S = 2.0
"""After which a function without calls sleeps, so that a spike comes soon."""

LOADS = {
    "steady": ["--rps", "20", "--for", "15", "--warm-up", "3", "--p95-ms", "250"],
    "spike": ["--shape", "spike:quiet=8,width=8", "--rps", "5", "--for", "32", "--p95-ms", "1500"],
}
"""Options of ``wakeful loadtest``. What is promised is much more than a quiet machine needs."""


def worst(statuses: Sequence[int]) -> int:
    """A load test that could not be run, then FAIL, then UNSURE."""
    order = (0, 2, 1)
    return max(statuses, key=lambda one: order.index(one) if one in order else len(order))


def main() -> int:
    """Both loads, one after the other; returns the exit status."""
    statuses = list[int]()
    with tempfile.TemporaryDirectory() as folder:
        functions = [declare.like(name, autoscaling=declare.sleepy(SLEEP_S)) for name in FUNCTIONS]
        file = declare.write(Path(folder, "serve_config.yaml"), functions)
        for name, options in LOADS.items():
            print(f"\n{name}: {' '.join(options)}", flush=True)
            command = [script("wakeful"), "loadtest", str(file), *options, "--success", "0.95"]
            statuses.append(subprocess.run([*command, *sys.argv[1:]], check=False).returncode)
    return worst(statuses)


if __name__ == "__main__":
    sys.exit(main())
