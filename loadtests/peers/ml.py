"""MLServer: its runtimes; ``compare`` writes their ``model-settings.json``."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtests.peers.minilm import MiniLM


class Embed(MLModel):
    """MiniLM, batched by MLServer's adaptive batching."""

    async def load(self) -> bool:
        """Called once in each worker."""
        self.model = MiniLM()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """A batch."""
        texts = StringCodec.decode_input(payload.inputs[0])
        rows = np.array(self.model.embed(texts), np.float32)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("embedding", rows)]
        )


class Trivial(MLModel):
    """Twice a number."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Doubled."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("answer", 2 * x)]
        )
