"""``config.pbtxt``: read as Triton reads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import tritonclient
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.artifacts.triton.model_config import (
    ENUMS,
    MAX_BACKSLASHES,
    MAX_LINE,
    MESSAGES,
    read_fields,
    read_model_config,
)
from runtime.errors import StoreError

TEXT = """
# a comment
name: "resnet"
backend: "onnxruntime"
max_batch_size: 0
input [
  { name: "x" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, -1 ] },
  { name: 'y' data_type: TYPE_STRING dims: 1 reshape { shape: [] } optional: true }
]
version_policy: { specific: { versions: [1, 3] } }
dynamic_batching { preferred_batch_size: [4, 8], max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_GPU gpus: [0] } ]
optimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt"
  parameters { key: "precision_mode" value: "FP16" } } ] } cuda { graphs: true } }
parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
model_warmup { name: "w" batch_size: 1 inputs { key: "x" value { zero_data: true } } }
model_of_tomorrow { a: 1 }
"""


def read(tmp_path: Path, text: str) -> dict[str, Any]:
    (tmp_path / "config.pbtxt").write_text(text)
    return read_model_config(tmp_path / "config.pbtxt")


def test_a_configuration_is_read(tmp_path: Path) -> None:
    """Lists in both forms, either quote, commas or none; 0 that is written is there."""
    assert read(tmp_path, TEXT) == {
        "name": "resnet",
        "backend": "onnxruntime",
        "max_batch_size": 0,
        "input": [
            {
                "name": "x",
                "data_type": "TYPE_FP32",
                "format": "FORMAT_NCHW",
                "dims": [3, 224, -1],
            },
            {
                "name": "y",
                "data_type": "TYPE_STRING",
                "dims": [1],
                "reshape": {},
                "optional": True,
            },
        ],
        "version_policy": {"specific": {"versions": [1, 3]}},
        "dynamic_batching": {"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100},
        "instance_group": [{"count": 2, "kind": "KIND_GPU", "gpus": [0]}],
        "optimization": {
            "execution_accelerators": {
                "gpu_execution_accelerator": [
                    {
                        "name": "tensorrt",
                        "parameters": [{"key": "precision_mode", "value": "FP16"}],
                    }
                ]
            },
            "cuda": {},
        },
        "parameters": [{"key": "intra_op_thread_count", "value": {"string_value": "4"}}],
        "model_warmup": [{}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name: "a" max_batch_size: "x"', r"config\.pbtxt:1:\d+ :"),
        ("input [ {", r"config\.pbtxt:1"),
        ("input { data_type: TYPE_FP31 }", "TYPE_FP31"),
        ('name: "a"\nname: "b"', r"config\.pbtxt:2"),
        ("<html>", r"config\.pbtxt:1"),
        ('name: "\\377"\n', r"config\.pbtxt:2:1 : Couldn't parse"),
        ("x" * (1 << 20) + "y", "more than"),
    ],
)
def test_a_wrong_configuration_says_where(tmp_path: Path, text: str, message: str) -> None:
    """The line and the column, as protobuf's parser has them."""
    with pytest.raises(StoreError, match=message):
        read(tmp_path, text)


def test_an_escape_that_is_none_is_refused(tmp_path: Path) -> None:
    """As by Triton; Python's protobuf only warns."""
    for text in ('\n\nplatform: "onnx\\_onnx"\n', '\n\nfoo: "a" "b"\t"\\_"\nname: "x"'):
        with pytest.raises(
            StoreError, match=r"config\.pbtxt:3: .* no escape; the character itself is \\\\\."
        ):
            read(tmp_path, text)
    assert read(tmp_path, r'platform: "a\\b"') == {"platform": r"a\b"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: 'x'\n" + "foo { " * 2000, r":2: .*too deep"),
        ("name: 'x'\n" + "input { foo {\n" * 2000, r":\d+: .*too deep"),
        ("sequence_batching {\n" + "a <" * 5000, r":2: .*too deep"),
        ("\n\nfoo: [[", r":3 : 'foo: \[\["),
        ("\nmax_batch_size: " + "9" * 60_000, r":2:17 : .*parse integer: 9+…\.$"),
        ("\nmax_batch_size: 0x" + "f" * 60_000, r":2:17 : "),
        ("a " * 30_000, r":1:3 : "),
        ("\n# x\n" + "a" * (MAX_LINE + 1), r":3: a line of more than"),
        ('\nname: "' + "\\" * (MAX_BACKSLASHES + 2) + '"', r":2: more than 100 backslashes"),
        ("name: \x1b[31m", r":1:7 : 'name: \\x1b\[31m': [^\x1b]*$"),
    ],
)
def test_what_would_take_the_parser_too_much_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """Depth, time with the square of a length, or a screen full of the word at fault."""
    with pytest.raises(StoreError, match=message) as caught:
        read(tmp_path, text)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_at_the_bounds_a_configuration_is_read(tmp_path: Path) -> None:
    """The last that is taken, of a line and of backslashes."""
    assert read(tmp_path, 'name: "' + "\\" * MAX_BACKSLASHES + '"') == {
        "name": "\\" * (MAX_BACKSLASHES // 2)
    }
    assert read(tmp_path, 'name: "x"' + " " * (MAX_LINE - 9)) == {"name": "x"}
    assert read(tmp_path, "foo { " * 50 + "}" * 50) == {}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [
                *("name", "input", "dims", "foo", "max_batch_size", "{", "}", "<", ">", "[", "]"),
                *(
                    ":",
                    ",",
                    ";",
                    " ",
                    "\n",
                    '"',
                    "'",
                    "\\",
                    "\\_",
                    "\\x",
                    "\\N{DASH}",
                    "\\477",
                    "#",
                ),
                *("1", "-1", "9" * 5000, "0x", "1.5", "é", "\x1b", "\x85", "\u2028", "TYPE_FP32"),
                *('name: "', "foo: ", "input { ", "[a.b/c.d]"),
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_a_text_is_read_or_refused_with_its_line(tmp_path: Path, text: str) -> None:
    """Whatever it is put together of, in a sentence that a terminal shows as it is."""
    try:
        read(tmp_path, text)
    except StoreError as error:
        place, _, reason = str(error).removeprefix(f"{tmp_path / 'config.pbtxt'}:").partition(" ")
        assert 1 <= int(place.split(":")[0]) <= text.count("\n") + 1
        assert reason.isprintable()
        assert len(reason) < 300


class OldField:
    """A field without what only some releases of protobuf have."""

    def __init__(self, field: Any) -> None:
        self.name = field.name
        self.message_type = field.message_type
        self.enum_type = field.enum_type


class OldMessage:
    """A message of such fields."""

    def __init__(self, message: Any) -> None:
        self._message = message

    def ListFields(self) -> list[tuple[OldField, Any]]:  # noqa: N802 (protobuf's)
        return [(OldField(field), value) for field, value in self._message.ListFields()]


def test_every_protobuf_from_5_on_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a field is repeated is `label` to the older ones, and `is_repeated` to the newer."""
    parse = text_format.ParseLines
    monkeypatch.setattr(
        text_format, "ParseLines", lambda *args, **options: OldMessage(parse(*args, **options))
    )
    text = 'name: "x" max_batch_size: 2 version_policy { specific { versions: [1, 3] } }'
    assert read(tmp_path, text)["name"] == "x"
    monkeypatch.undo()
    assert read(tmp_path, text) == {
        "name": "x",
        "max_batch_size": 2,
        "version_policy": {"specific": {"versions": [1, 3]}},
    }


def test_bytes_are_no_configuration(tmp_path: Path) -> None:
    """Nor is a file that is not there."""
    (tmp_path / "config.pbtxt").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "config.pbtxt", tmp_path / "none"):
        with pytest.raises(StoreError, match=r"UTF-8|cannot be read"):
            read_model_config(path)


def test_our_messages_are_tritons() -> None:
    """Names, numbers and kinds of all fields, as Triton's own client has them."""
    path = Path(tritonclient.__path__[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("triton_model_config", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    seen: set[str] = set()
    pending = [("ModelConfig", module.ModelConfig.DESCRIPTOR)]
    while pending:
        name, theirs = pending.pop()
        seen.add(name)
        ours = {field: (number, kind) for number, field, kind in read_fields(MESSAGES[name])}
        assert set(ours) == {field.name for field in theirs.fields}, name
        for field in theirs.fields:
            number, kind = ours[field.name]
            bare = kind.removesuffix("*")
            assert (number, kind.endswith("*")) == (field.number, bool(field.is_repeated)), field
            if bare in ENUMS:
                assert ENUMS[bare] == [value.name for value in field.enum_type.values]
            elif bare in MESSAGES:
                assert field.message_type is not None, field.full_name
                if bare != "Opaque":
                    pending.append((bare, field.message_type))
    assert seen == set(MESSAGES) - {"Opaque"}
