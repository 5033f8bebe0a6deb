"""A process with one ONNX Runtime session of one thread, told by lines of JSON on stdin what to run.

    {"op": "rate", "rows": [[id, ...], ...], "plan": [[index, ...], ...], "seconds": 2.0}
        ─▶ {"ready": true}; then, told {"go": true}: {"rows": 512, "seconds": 2.1}
    {"op": "calls", "rows": [[id, ...]], "count": 100, "pause_s": 0.0}     ─▶ {"seconds": [0.0024, ...]}
    {"op": "embed", "rows": [[id, ...], ...]}              ─▶ {"vectors": [[...], ...]}

Batches are built before the clock starts: what is measured is the model and nothing else. The end of stdin ends the process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

Feed = dict[str, np.ndarray]


def open_session(path: str) -> Any:
    """A session as a careful user would set it up by hand."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feed(session: Any, rows: list[list[int]]) -> Feed:
    """Token ids padded to the longest row, the mask that says where they are, zeros for every other input."""
    shape = (len(rows), max(map(len, rows)))
    feeds = {tensor.name: np.zeros(shape, np.int64) for tensor in session.get_inputs()}
    for index, row in enumerate(rows):
        feeds["input_ids"][index, : len(row)] = row
        if "attention_mask" in feeds:
            feeds["attention_mask"][index, : len(row)] = 1
    return feeds


def rate(session: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Whole passes over the plan until the time is over: a pass is never cut, since its batches are not alike."""
    batches = [feed(session, [job["rows"][index] for index in batch]) for batch in job["plan"]]
    for batch in batches[:3]:
        session.run(None, batch)
    reply({"ready": True})
    sys.stdin.readline()
    passes, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < job["seconds"]:
        for batch in batches:
            session.run(None, batch)
        passes += 1
    return {"rows": passes * sum(map(len, job["plan"])), "seconds": elapsed}


def calls(session: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The seconds of each single call."""
    single = feed(session, job["rows"])
    seconds = []
    for index in range(job["count"] + 20):
        start = time.perf_counter()
        session.run(None, single)
        if index >= 20:
            seconds.append(time.perf_counter() - start)
        if job["pause_s"]:
            time.sleep(job["pause_s"])
    return {"seconds": seconds}


def embed(session: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The first output of each row, run alone."""
    return {"vectors": [session.run(None, feed(session, [row]))[0][0].tolist() for row in job["rows"]]}


def reply(message: dict[str, Any]) -> None:
    """One line to the parent, at once."""
    print(json.dumps(message), flush=True)


def main() -> None:
    """Serves jobs until stdin ends."""
    session = open_session(sys.argv[1])
    operations: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {"rate": rate, "calls": calls, "embed": embed}
    reply({"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        reply(operations[job["op"]](session, job))


if __name__ == "__main__":
    main()
