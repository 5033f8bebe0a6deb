"""``config.pbtxt``: read as Triton reads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import tritonclient

from runtime.artifacts.triton.model_config import ENUMS, MESSAGES, read_fields, read_model_config
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
        ("x" * (1 << 20) + "y", "more than"),
    ],
)
def test_a_wrong_configuration_says_where(tmp_path: Path, text: str, message: str) -> None:
    """The line and the column, as protobuf's parser has them."""
    with pytest.raises(StoreError, match=message):
        read(tmp_path, text)


def test_an_escape_that_is_none_is_refused(tmp_path: Path) -> None:
    """As by Triton; Python's protobuf only warns."""
    with pytest.raises(StoreError, match=r"begins no escape; the character itself is \\\\\."):
        read(tmp_path, r'platform: "onnxruntime\_onnx"')
    assert read(tmp_path, r'platform: "a\\b"') == {"platform": r"a\b"}


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
