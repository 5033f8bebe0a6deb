"""Answers that Ray Serve passes on by pickling them."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import numpy as np
from starlette.types import Message

from deployments.byserve import ByServe
from runtime.http.exchange import send_chunks


def test_an_answer_of_views_can_be_pickled_and_is_the_same() -> None:
    """Tensors are sent from where they lie."""
    array = np.arange(5, dtype=np.float32)
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_chunks(send, [b"head", array.data.cast("B")], ())

    async def keep(message: Message) -> None:
        sent.append(pickle.loads(pickle.dumps(message)))

    asyncio.run(ByServe(app)({"type": "http"}, None, keep))  # type: ignore[arg-type]
    assert b"".join(message.get("body", b"") for message in sent) == b"head" + array.tobytes()
