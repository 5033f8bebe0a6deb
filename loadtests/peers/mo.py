"""mosec: ``python -m loadtests.peers.mo embed|trivial WORKERS --address HOST --port PORT``.

One stage, whose workers take batches: its guide splits stages where one of them has a GPU. A batch
waits for less than its model takes, as the guide has it. Bodies and answers are JSON, its default
and what every other server here is asked for; for embeddings its guide names msgpack.
"""

from __future__ import annotations

import sys
from typing import Any

from mosec import Server, Worker

from loadtests.peers.minilm import MiniLM

WAIT_MS = 2
BATCH = 32


class Embed(Worker):
    """MiniLM, batched."""

    def __init__(self) -> None:
        super().__init__()
        self.model = MiniLM()
        self.example = [{"text": "a text"}] * BATCH

    def forward(self, data: list[dict[str, str]]) -> list[dict[str, Any]]:
        """A batch."""
        found = self.model.embed([row["text"] for row in data])
        return [{"embedding": row} for row in found]


class Trivial(Worker):
    """Twice a number."""

    def forward(self, data: dict[str, float]) -> dict[str, float]:
        """Doubled."""
        return {"answer": 2 * data["x"]}


if __name__ == "__main__":
    # what is left of the command line is mosec's own; its workers are spawned, and read it again
    name, workers = sys.argv[1:3]
    del sys.argv[1:3]
    server = Server()
    if name == "embed":
        server.append_worker(Embed, num=int(workers), max_batch_size=BATCH, max_wait_time=WAIT_MS)
    else:
        server.append_worker(Trivial, num=int(workers))
    server.run()
