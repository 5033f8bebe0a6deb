"""ONNX Runtime alone on every core: the limit of the machine, measured in processes that share nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from loadtests.bench.children import Child, module
from loadtests.bench.policies import Plan
from loadtests.bench.texts import Text


class BareLoop:
    """Worker processes, each with a session of one thread; idle between measurements."""

    def __init__(self, workers: Sequence[Child]) -> None:
        self._workers = tuple(workers)

    def __repr__(self) -> str:
        return f"<BareLoop of {len(self._workers)}>"

    def rows_per_s(self, texts: Sequence[Text], plan: Plan, seconds: float) -> float:
        """Rows a second over all workers, each doing whole passes over the plan for at least ``seconds``.

        Each starts elsewhere in the plan, so that they do not run the same batch at the same moment.
        """
        for index, worker in enumerate(self._workers):
            start = index * len(plan) // len(self._workers)
            job = {"op": "rate", "rows": [text.tokens for text in texts], "plan": plan[start:] + plan[:start], "seconds": seconds}
            worker.send(json.dumps(job))
        for worker in self._workers:
            worker.receive()
        for worker in self._workers:
            worker.send('{"go": true}')
        results = [json.loads(worker.receive()) for worker in self._workers]
        return float(sum(result["rows"] / result["seconds"] for result in results))

    def call_seconds(self, text: Text, count: int, pause_s: float = 0.0) -> list[float]:
        """The seconds of ``count`` single calls of one text, in one worker while the others are idle; tokenising not included.

        Args:
            pause_s: how long the worker sleeps between two calls. A core that slept runs the next call slower: on a virtual machine
                of two cores half a millisecond of sleep was measured to add a quarter to a call of 1.4 ms.
        """
        found: list[float] = self._ask({"op": "calls", "rows": [text.tokens], "count": count, "pause_s": pause_s})["seconds"]
        return found

    def embed(self, texts: Sequence[Text]) -> list[list[float]]:
        """What the bare model answers to each text alone: the oracle for the answers over HTTP."""
        return list(self._ask({"op": "embed", "rows": [text.tokens for text in texts]})["vectors"])

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        self._workers[0].send(json.dumps(job))
        return dict(json.loads(self._workers[0].receive()))


@contextlib.contextmanager
def bare_loop(model: Path, workers: int, log: Path) -> Iterator[BareLoop]:
    """Starts the workers and ends them."""
    with contextlib.ExitStack() as stack:
        command = module("loadtests.bench.bare_worker", str(model))
        children = [stack.enter_context(Child(command, log, piped=True)) for _ in range(workers)]
        for child in children:
            child.receive()
        yield BareLoop(children)
