"""The line that `up` prints for each function."""

from __future__ import annotations

import shlex
from pathlib import Path

from deployments.samples import LONGEST, curl
from runtime.settings import Settings
from runtime.spec import FunctionSpec

URL = "http://127.0.0.1:8000/v2/models/f"


def line(root: Path, **args: object) -> list[str]:
    """Its words, as a shell reads them."""
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"graph": [{"stage": "s", "python": "m:f"}], **args})
    return shlex.split(curl(spec, URL, Settings.read({"WAKEFUL_ROOT": str(root)})))


def test_the_example_is_sent(tmp_path):
    """Whatever stands in it."""
    assert line(tmp_path, example={"text": "it's"}) == ["curl", URL, "-H", "content-type: application/json", "-d", '{"text": "it\'s"}']


def test_a_sequence_is_named(tmp_path):
    """One of a single call, since without a name it would be refused."""
    words = line(tmp_path, example={"text": "a"}, sequences={})
    assert [word for word in words if word.startswith("x-")] == ["x-sequence-id: me", "x-sequence-start: 1", "x-sequence-end: 1"]


def test_a_long_example_is_not_pasted(tmp_path):
    """The metadata says what to send."""
    assert line(tmp_path, example={"text": "a" * LONGEST}) == ["curl", URL]
