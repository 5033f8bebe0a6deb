"""A stage is a function; `serve` shows what a caller gets, as it comes."""

import asyncio
import json
from pathlib import Path

from my_function import read_out

from wakeful.testing import serve

FOLDER = Path(__file__).parent


def test_words_come_in_order():
    async def words():
        return [item["word"] async for item in read_out("one two", pause_s=0)]

    assert asyncio.run(words()) == ["one", "two"]


def test_items_are_streamed():
    request = json.loads((FOLDER / "request.json").read_text())
    with serve(FOLDER / "serve_config.yaml") as app:
        items = list(app["my-function"].stream(**request))
    assert items[1] == {"word": "quick", "position": 1}
