"""``python -m tests.runtime.onnx.hostile_loads FOLDER FIRST END``: opens models of
``hostile_models``, each in a process of its own that is made of this one, and prints what came of
them, as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from runtime.errors import LoadError
from runtime.onnx.installed_build import onnx_runtime
from runtime.onnx.model_graph import read_graph
from runtime.onnx.model_info import inspect_model
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from tests.runtime.onnx.hostile_models import SECRET, hostile_model, write_folder

LONGEST_S = 20
MEMORY_BYTES = 6 << 30
"""Of addresses: ONNX Runtime takes one by itself."""

OPENED, REFUSED, OTHER = 0, 10, 11


def load(path: Path) -> int:
    """What `check` and a load do with a model; ends with this process."""
    opened: list[str] = []
    sys.addaudithook(lambda event, found: opened.append(str(found[0])) if event == "open" else None)
    outcome = OPENED
    for step in (inspect_model, read_graph, _open):
        try:
            step(path)
        except LoadError as error:
            outcome = REFUSED
            if SECRET.decode() in str(error):
                print(f"the secret is in {error}", file=sys.stderr)
                return OTHER
        except BaseException:
            traceback.print_exc()
            return OTHER
    others = [name for name in opened if not name.startswith((str(path.parent), "/sys", "/proc/m"))]
    if others := [name for name in others if not name.endswith((".py", ".pyc", ".so"))]:
        print(f"opened: {others}", file=sys.stderr)
        return OTHER
    return outcome


def _open(path: Path) -> None:
    session = Session(path, CPU_PLAN)
    has_rows = session.info.batchable
    session.warm_up(2, free=2, has_rows=has_rows, is_first=True)


def load_apart(path: Path) -> tuple[str, str]:
    """What came of a load in a process of its own, and what it wrote."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.alarm(LONGEST_S)
        os._exit(load(path))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        written = file.read().decode(errors="replace")[-1500:]
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGALRM:
        return "hung", written
    names = {OPENED: "opened", REFUSED: "refused", OTHER: "other"}
    return names.get(status, f"ended with {status}"), written


def main(folder: Path, first: int, end: int) -> None:
    """Open them all."""
    onnx_runtime()  # once, not in each process
    models = write_folder(folder)
    counts: Counter[str] = Counter()
    other: dict[str, str] = {}
    longest = (0.0, 0)
    for seed in range(first, end):
        path = models / "m.onnx"
        path.write_bytes(hostile_model(seed))
        began = time.monotonic()
        outcome, written = load_apart(path)
        longest = max(longest, (time.monotonic() - began, seed))
        counts[outcome] += 1
        if outcome in ("other", "hung"):
            other[str(seed)] = f"{outcome}: {written}"
        elif outcome not in ("opened", "refused"):
            print(f"{seed}: {outcome}: {written[-300:]}", file=sys.stderr)
    print(json.dumps({**counts, "longest_s": longest[0], "longest_of": longest[1], "other": other}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
