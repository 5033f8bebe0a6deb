"""LitServe: ``python -m loadtests.peers.lit embed|trivial PORT WORKERS``."""

import sys
from typing import Any

import litserve
from fastapi import Request

from loadtests.peers.minilm import MiniLM


class Embed(litserve.LitAPI):
    """MiniLM, batched."""

    def setup(self, device: str) -> None:
        """Called once in each worker."""
        self.model = MiniLM()

    def decode_request(self, request: Request) -> str:
        """One request's text."""
        text: str = request["text"]
        return text

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts need no stacking."""
        return inputs

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """Nor do their embeddings."""
        return output

    def predict(self, x: list[str]) -> list[list[float]]:
        """A batch."""
        return self.model.embed(x)

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        """One request's answer."""
        return {"embedding": output}


class Trivial(litserve.LitAPI):
    """Twice a number."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: Request) -> float:
        """One request's number."""
        x: float = request["x"]
        return x

    def predict(self, x: float) -> float:
        """Doubled."""
        return 2 * x

    def encode_response(self, output: float) -> dict[str, float]:
        """One request's answer."""
        return {"answer": output}


if __name__ == "__main__":
    name, port, workers = sys.argv[1:]
    api = Embed(max_batch_size=32, batch_timeout=0.002) if name == "embed" else Trivial()
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=int(workers), fast_queue=True
    )
    server.run(port=int(port), host="127.0.0.1", generate_client_file=False, log_level="warning")
