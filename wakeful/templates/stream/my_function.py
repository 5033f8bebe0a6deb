"""The stage of my-function. Each item that it yields is sent at once, as the caller asks for it:
server-sent events, lines of JSON, or one array at the end.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TypedDict


class Word(TypedDict):
    word: str
    position: int


async def read_out(text: str, pause_s: float = 0.05) -> AsyncIterator[Word]:
    """Word by word. A caller that leaves ends it at the next `await`."""
    for position, word in enumerate(text.split()):
        yield {"word": word, "position": position}
        await asyncio.sleep(min(pause_s, 1.0))
