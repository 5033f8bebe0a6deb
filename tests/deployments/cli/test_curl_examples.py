"""The line that `up` prints for each function."""

from __future__ import annotations

import shlex

from deployments.cli.options import curl_example
from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.requests.curl_lines import LONGEST_BODY

URL = "http://127.0.0.1:8000/v2/models/f"


def line(**args: object) -> list[str]:
    """Its words, as a shell reads them."""
    spec = FunctionSpec.from_args(
        "f", "/v2/models/f", {"graph": [{"stage": "s", "python": "m:f"}], **args}
    )
    return shlex.split(curl_example(spec, None, URL))


def test_the_example_is_sent():
    """Whatever it holds."""
    assert line(example={"text": "it's"}) == [
        "curl",
        URL,
        "-H",
        "content-type: application/json",
        "-d",
        '{"text": "it\'s"}',
    ]


def test_a_sequence_is_named():
    """One of a single call, since without a name it would be refused."""
    words = line(example={"text": "a"}, sequences={})
    assert [word for word in words if word.startswith("x-")] == [
        "x-sequence-id: me",
        "x-sequence-start: 1",
        "x-sequence-end: 1",
    ]


def test_a_long_example_is_not_pasted():
    """The metadata says what to send."""
    assert line(example={"text": "a" * LONGEST_BODY}) == ["curl", URL]


def test_where_calls_need_a_key_the_shell_has_it():
    """By the variable that commands take it from; it is in no history of a shell."""
    graph = [{"stage": "s", "python": "m:f"}]
    for args in ({"example": {"text": "a"}}, {"example": {"text": "a" * LONGEST_BODY}}):
        spec = FunctionSpec.from_args("f", "/v2/models/f", {"graph": graph, **args})
        words = shlex.split(curl_example(spec, None, URL, has_key=True))
        assert words[:4] == ["curl", "-H", "authorization: Bearer $WAKEFUL_KEY", URL]
