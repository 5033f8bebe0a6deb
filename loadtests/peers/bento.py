"""BentoML: ``bentoml serve loadtests.peers.bento:Embed`` (or ``:Trivial``)."""

from __future__ import annotations

import os

import bentoml

from loadtests.peers.minilm import MiniLM

WORKERS = int(os.environ.get("WORKERS", "1"))


@bentoml.service(workers=WORKERS)
class Embed:
    """MiniLM, batched."""

    def __init__(self) -> None:
        self.model = MiniLM()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def embed(self, text: list[str]) -> list[list[float]]:
        """A batch."""
        return self.model.embed(text)


@bentoml.service(workers=WORKERS)
class Trivial:
    """Twice a number."""

    @bentoml.api(route="/predict")
    def double(self, x: float) -> float:
        """Return twice the number, as the function of every peer."""
        return 2 * x
