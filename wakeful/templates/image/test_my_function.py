"""A stage is a function; `serve` shows what a caller gets."""

from pathlib import Path

import pytest
from my_function import describe

from wakeful import RequestError
from wakeful.testing import serve

FOLDER = Path(__file__).parent
SAMPLE = (FOLDER / "sample.png").read_bytes()
EXPECTED = {"width": 32, "height": 24, "colour": "#7f5f40"}


def test_a_picture_is_described():
    assert describe(SAMPLE) == EXPECTED


def test_what_is_no_picture_is_refused():
    with pytest.raises(RequestError):
        describe(b"no picture")


def test_the_body_is_the_picture():
    with serve(FOLDER / "serve_config.yaml") as app:
        answer = app.http.post(
            app["my-function"].path, content=SAMPLE, headers={"content-type": "image/png"}
        )
    assert answer.json() == EXPECTED
