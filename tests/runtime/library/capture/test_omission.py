"""A body without fields that must not be recorded."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from runtime.library.capture.omission import answer_without_fields, without_fields

FIELDS = ("text", "image", "top")
OMIT = ("image", "secret")
CANARY = "the canary 4711"


def left(
    body: Any, route: str = "", media_type: str = "", header_length: int | None = None
) -> tuple[bytes, tuple[str, ...], int | None] | None:
    """What remains of a body."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    found = without_fields(
        text,
        route=route,
        media_type=media_type,
        header_length=header_length,
        fields=FIELDS,
        omit=OMIT,
    )
    return None if found is None else (found.body, found.omitted, found.header_length)


def tensor(name: str, **more: Any) -> dict[str, Any]:
    """Of a v2 request."""
    return {"name": name, "shape": [1], "datatype": "BYTES", **more}


@pytest.mark.parametrize(
    ("body", "route", "media_type", "expected", "omitted"),
    [
        ({"text": "a", "image": CANARY}, "", "", {"text": "a"}, ("image",)),
        ({"text": "a"}, "", "application/json", {"text": "a"}, ()),
        ([{"text": "a"}, {"image": CANARY}], "", "", [{"text": "a"}, {}], ("image",)),
        ([], "", "", [], ()),
        (
            {"id": CANARY, "text": "a", "parameters": {"image": CANARY, "top": 1, "x": CANARY}},
            "/generate",
            "",
            {"text": "a", "parameters": {"top": 1}},
            ("image",),
        ),
        (
            {
                "id": "7",
                "inputs": [tensor("text", data=["a"]), tensor("image", data=[CANARY])],
                "parameters": {"sequence_id": "s", "sequence_start": True, "mine": CANARY},
                "mine": CANARY,
            },
            "/infer",
            "",
            {
                "id": "7",
                "inputs": [tensor("text", data=["a"])],
                "parameters": {"sequence_id": "s", "sequence_start": True},
            },
            ("image",),
        ),
    ],
)
def test_fields_are_taken_out(body, route, media_type, expected, omitted):
    """Whatever way a row comes in JSON; nothing is left but known fields and what routes a call."""
    found = left(body, route, media_type)
    assert found is not None
    assert (json.loads(found[0]), found[1]) == (expected, omitted)
    assert CANARY.encode() not in found[0]


def test_lines_stay_lines():
    """Each without the field."""
    lines = b'{"text": "a", "image": "x"}\n\n{"top": 1}'
    assert left(lines, "", "application/x-ndjson") == (
        b'{"text":"a"}\n{"top":1}\n',
        ("image",),
        None,
    )


def test_a_binary_tensor_goes_with_its_bytes():
    """The others' stay in their order, behind JSON of the length that is said."""
    parts = {"text": b"\x01\0\0\0a", "image": CANARY.encode(), "top": b"\x02"}
    head = json.dumps(
        {
            "inputs": [
                tensor(name, parameters={"binary_data_size": len(data), "mine": CANARY})
                for name, data in parts.items()
            ]
        }
    ).encode()
    found = left(head + b"".join(parts.values()), "/infer", "", len(head))
    assert found is not None
    body, omitted, length = found
    assert omitted == ("image",)
    request = json.loads(body[:length])
    assert [one["name"] for one in request["inputs"]] == ["text", "top"]
    assert [one["parameters"] for one in request["inputs"]] == [
        {"binary_data_size": 5},
        {"binary_data_size": 1},
    ]
    assert body[length:] == parts["text"] + parts["top"]
    assert CANARY.encode() not in body


def test_of_v2_nothing_is_left_that_is_not_known():
    """What may hold anything loses what is not a part of the protocol."""
    found = left(
        {
            "id": "7",
            "inputs": [tensor("text", data=["a"], parameters={"mine": CANARY})],
            "outputs": [
                {"name": "label", "image": CANARY},
                {"name": "n", "parameters": {"binary_data": True, "image": CANARY}},
                {"name": "m", "parameters": {"binary_data": {"image": CANARY}}},
                {"name": "o", "parameters": CANARY},
            ],
            "parameters": {"timeout": {"image": CANARY}, "sequence_id": [CANARY], "priority": 1},
        },
        "/infer",
    )
    assert found is not None
    assert json.loads(found[0]) == {
        "id": "7",
        "inputs": [tensor("text", data=["a"], parameters={})],
        "outputs": [
            {"name": "label"},
            {"name": "n", "parameters": {"binary_data": True}},
            {"name": "m", "parameters": {}},
            {"name": "o"},
        ],
        "parameters": {"priority": 1},
    }


@pytest.mark.parametrize(
    ("body", "route", "media_type"),
    [
        ({"text": "a", "imgae": CANARY}, "", ""),
        ([{"text": "a"}, {"Image": CANARY}], "", ""),
        ([CANARY], "", ""),
        (CANARY, "", ""),
        (b"not json", "", ""),
        (b"\xff\xd8\xff" + CANARY.encode(), "", "image/jpeg"),
        (b"text=a&image=b", "", "application/x-www-form-urlencoded"),
        (b"--x\r\n", "", "multipart/form-data"),
        (b'{"text": "a"}\n[1]', "", "application/x-ndjson"),
        ({"input": CANARY}, "/v1/embeddings", ""),
        ({"inputs": [tensor("imgae", data=[CANARY])]}, "/infer", ""),
        ({"inputs": {"image": CANARY}}, "/infer", ""),
        ({"inputs": [tensor("text", parameters={"binary_data_size": 9})]}, "/infer", ""),
        ({"inputs": [tensor("text", parameters={"binary_data_size": -1})]}, "/infer", ""),
        ({"text": "a", "parameters": CANARY}, "/generate_stream", ""),
        ({"inputs": [{"name": ["image"]}]}, "/infer", ""),
        ({"inputs": [tensor("text") | {"shape": [CANARY]}]}, "/infer", ""),
        ({"inputs": [tensor("text") | {"shape": CANARY}]}, "/infer", ""),
        ({"inputs": [tensor("text") | {"datatype": CANARY}]}, "/infer", ""),
        ({"inputs": [tensor("text") | {"datatype": {"image": CANARY}}]}, "/infer", ""),
        ({"inputs": [tensor("text")], "id": {"image": CANARY}}, "/infer", ""),
        ({"inputs": [tensor("text")], "outputs": CANARY}, "/infer", ""),
        ({"inputs": [tensor("text")], "outputs": [CANARY]}, "/infer", ""),
        ({"inputs": [tensor("text")], "outputs": [{"image": CANARY}]}, "/infer", ""),
    ],
)
def test_what_is_not_known_leaves_all_of_it_out(body, route, media_type):
    """A misspelt field, or another shape, may hold what is to be kept out."""
    assert left(body, route, media_type) is None


@pytest.mark.parametrize(
    ("answer", "route", "expected"),
    [
        ({"label": 1, "image": CANARY}, "", {"label": 1}),
        (
            [
                {"label": 1},
                {
                    "error": CANARY,
                    "code": "wrong_datatype",
                    "where": "[1].image",
                    "request_id": "7",
                    "status": 400,
                },
            ],
            "",
            [{"label": 1}, {"code": "wrong_datatype", "status": 400}],
        ),
        (
            {
                "model_name": "f",
                "outputs": [{"name": "image", "data": [CANARY]}, {"name": "label"}],
            },
            "/infer",
            {"model_name": "f", "outputs": [{"name": "label"}]},
        ),
        ({"data": [CANARY]}, "/v1/embeddings", None),
        ([CANARY], "", None),
        ({"outputs": CANARY}, "/infer", None),
        ({"outputs": [CANARY]}, "/infer", None),
        ({"label": 1}, "", {"label": 1}),
        ({"outputs": [{"name": "label"}]}, "/infer", {"outputs": [{"name": "label"}]}),
    ],
)
def test_answers_lose_the_fields_too(answer, route, expected):
    """And the messages of errors, which may quote a value."""
    found = answer_without_fields(json.dumps(answer).encode(), route=route, omit=OMIT)
    assert (None if found is None else json.loads(found.body)) == expected
    assert found is None or bool(found.omitted) is (expected != answer)


def scatter(dice: random.Random, depth: int = 0) -> Any:
    """JSON of any shape, in which the canary stands under names of any kind."""
    kind = dice.randrange(6 if depth < 4 else 3)
    if kind < 2:
        return dice.choice([CANARY, 1, None, "a"])
    names = ("text", "image", "secret", "inputs", "parameters", "name", "data", "id", "outputs")
    if kind < 5:
        return {dice.choice(names): scatter(dice, depth + 1) for _ in range(dice.randrange(1, 4))}
    return [scatter(dice, depth + 1) for _ in range(dice.randrange(3))]


@pytest.mark.parametrize("seed", range(3))
def test_an_omitted_name_is_never_left(seed):
    """At the place of a field, in whatever a client sends to whichever route."""
    dice = random.Random(seed)
    for _ in range(700):
        body = orjson.dumps(scatter(dice))
        route = dice.choice(["", "/infer", "/generate"])
        found = left(body, route, dice.choice(["", "application/x-ndjson"]))
        if found is None:
            continue
        data = [json.loads(line) for line in found[0].splitlines()]
        for row in data[0] if data and isinstance(data[0], list) else data:
            inputs = row.get("inputs", []) if route == "/infer" else []
            assert not {"image", "secret"} & row.keys()
            assert not {"image", "secret"} & {one["name"] for one in inputs}
            assert not {"image", "secret"} & (row.get("parameters") or {}).keys()
