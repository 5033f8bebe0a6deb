"""Ray Serve with its own defaults: ``serve run loadtests.peers.serve:embed`` (or ``:trivial``)."""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from starlette.requests import Request

from loadtests.peers.minilm import MiniLM

WORKERS = int(os.environ.get("WORKERS", "1"))


@serve.deployment(num_replicas=WORKERS)
class Embed:
    """MiniLM, batched by ``serve.batch``."""

    def __init__(self) -> None:
        self.model = MiniLM()

    @serve.batch(max_batch_size=32)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        """A batch."""
        return self.model.embed(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"embedding": await self.embed((await request.json())["text"])}


@serve.deployment(num_replicas=WORKERS)
class Trivial:
    """Twice a number."""

    async def __call__(self, request: Request) -> dict[str, float]:
        return {"answer": 2 * (await request.json())["x"]}


embed = Embed.bind()  # type: ignore[attr-defined]
trivial = Trivial.bind()  # type: ignore[attr-defined]
