"""What a file is that stands where a model or a declaration is wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.system.files import export_advice, kind_of_file


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("m.onnx", b"", "empty"),
        ("m.pt", b"PK\x03\x04", "a PyTorch file"),
        ("m.keras", b"PK\x03\x04", "a Keras model"),
        ("m.onnx", b"PK\x03\x04", "a zip archive, as PyTorch and Keras write models"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes models"),
        ("m.joblib", b"\x80\x04\x95", "a pickle, as joblib and scikit-learn write models"),
        ("m.tflite", b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model"),
        (
            "m.safetensors",
            b"\x40\x00\x00\x00\x00\x00\x00\x00{",
            "a safetensors file, weights without a graph",
        ),
        (
            "m.onnx",
            b"version https://git-lfs.github.com",
            "a pointer of Git LFS; run `git lfs pull`",
        ),
        ("m.onnx", b"<!DOCTYPE html>", "a page of HTML, perhaps an error of a download"),
        ("iris.py", b"import numpy\n", "Python"),
        ("m.onnx", b"hello\n", "text"),
        ("m.onnx", b"a" * 511 + "é".encode()[:1], "text"),
        ("m.onnx", b"\x80", ""),
        ("m.onnx", b"\x08\x08\x12\x07pytorch", ""),
        ("m.onnx", b"\x00\xff\xfe", ""),
    ],
)
def test_a_file_is_known_by_its_first_bytes(name: str, head: bytes, kind: str) -> None:
    """And by its name where those of several kinds are alike; an ONNX file is none of them."""
    assert kind_of_file(Path(name), head) == kind


def test_what_a_framework_wrote_has_the_line_that_exports_it() -> None:
    """And anything else has none."""
    assert "torch.onnx.export" in export_advice("a PyTorch file")
    assert "skl2onnx" in export_advice("a pickle, as joblib and scikit-learn write models")
    assert export_advice("text") == ""
