"""A stage is a function; `serve` shows what a caller gets."""

import json
from pathlib import Path

import pytest
from my_function import summarise

from wakeful import RequestError
from wakeful.testing import serve

FOLDER = Path(__file__).parent


def test_the_words_are_counted():
    assert summarise("a bigger fish") == {"words": 3, "longest": "bigger"}


def test_a_text_without_words_is_refused():
    with pytest.raises(RequestError):
        summarise(" ")


def test_the_request_is_answered():
    request = json.loads((FOLDER / "request.json").read_text())
    with serve(FOLDER / "serve_config.yaml") as app:
        assert app["my-function"](**request) == {"words": 9, "longest": "QUICK"}
