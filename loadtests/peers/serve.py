"""Ray Serve as its guides write it: ``serve run loadtests.peers.serve:embed`` (or ``:trivial``).

``max_ongoing_requests`` is raised, as the guide to performance has it for ``async`` methods and
Serve's own warning for batches; the model runs beside the event loop, as the guide to asyncio has
it. With the default of 5 a batch has 5 rows at most, and calls beyond that wait in the router,
which looks again after 25 ms, and then twice as long each time, up to 500 ms: under 64 connections
the cores were idle for most of the time.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from ray import serve
from starlette.requests import Request

from loadtests.peers.minilm import MiniLM

WORKERS = int(os.environ.get("WORKERS", "1"))

BATCH = 32

deployed = serve.deployment(num_replicas=WORKERS, max_ongoing_requests=2 * BATCH)
"""One batch gathers while another runs."""


@deployed
class Embed:
    """MiniLM, batched by ``serve.batch``."""

    def __init__(self) -> None:
        self.model = MiniLM()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.002)
    async def embed(self, texts: list[str]) -> list[list[float]]:
        """A batch."""
        return await asyncio.to_thread(self.model.embed, texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        return {"embedding": await self.embed((await request.json())["text"])}


@deployed
class Trivial:
    """Twice a number."""

    async def __call__(self, request: Request) -> dict[str, float]:
        return {"answer": 2 * (await request.json())["x"]}


embed = Embed.bind()  # type: ignore[attr-defined]
trivial = Trivial.bind()  # type: ignore[attr-defined]
