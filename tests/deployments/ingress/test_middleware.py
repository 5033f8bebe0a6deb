"""Answers that Ray Serve passes on by pickling them."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
from starlette.types import Message

from deployments.ingress.middleware import PicklableResponses
from runtime.http.exchange import Response


def test_an_answer_of_views_can_be_pickled_and_is_the_same() -> None:
    """Tensors are sent from where they lie."""
    array = np.arange(5, dtype=np.float32)
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response([b"head", array.data.cast("B")]).send_to(send)

    async def keep(message: Message) -> None:
        sent.append(pickle.loads(pickle.dumps(message)))

    asyncio.run(PicklableResponses(app)({"type": "http"}, None, keep))  # type: ignore[arg-type]
    assert b"".join(message.get("body", b"") for message in sent) == b"head" + array.tobytes()
