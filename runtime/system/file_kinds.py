"""What a file is that stands where another kind is wanted, by its first bytes and its name: a
PyTorch checkpoint for an ONNX model, Python for a declaration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 512
"""Of a file, that are looked at."""

_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes models"),
    (0, b"\x80\x02", "a pickle, as older PyTorch and joblib write them"),
    (0, b"\x80\x03", "a pickle"),
    (0, b"\x80\x04", "a pickle, as joblib and scikit-learn write models"),
    (0, b"\x80\x05", "a pickle, as joblib and scikit-learn write models"),
    (0, b"GGUF", "a GGUF file of llama.cpp, a language model"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "an ONNX Runtime file (.ort)"),
    (0, b"\x1f\x8b", "compressed by gzip; unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x93NUMPY", "an array of NumPy"),
    (0, b"<!DOCTYPE", "a page of HTML, perhaps an error of a download"),
    (0, b"<html", "a page of HTML, perhaps an error of a download"),
)

_ZIPS: Final = {
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".bin": "a PyTorch file",
    ".ckpt": "a PyTorch checkpoint",
    ".pt2": "an exported program of PyTorch",
    ".keras": "a Keras model",
    ".npz": "arrays of NumPy",
    ".mar": "an archive of TorchServe",
    ".whl": "a wheel",
}
"""What a zip archive is, by the ending of its name."""

_EXPORTS: Final = {
    "PyTorch": "torch.onnx.export(model, example, 'model.onnx', dynamo=True)",
    "Keras": "model.export('model.onnx', format='onnx')",
    "TensorFlow": "python -m tf2onnx.convert",
    "scikit-learn": "skl2onnx.to_onnx(model, rows[:1])",
    "safetensors": "torch.onnx.export, or `wakeful add hf:ORG/REPO` for a model of a hub",
}
"""How a model of a framework becomes ONNX."""


def kind_of_file(path: Path, head: bytes) -> str:
    """What a file is, with its article; empty where that is not known.

    Args:
        head: its first ``HEAD_BYTES``.
    """
    if not head:
        return "empty"
    if head.startswith(b"PK\x03\x04"):
        return _ZIPS.get(path.suffix.lower(), "a zip archive, as PyTorch and Keras write models")
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    size = int.from_bytes(head[:8], "little")
    if 2 <= size < 1 << 27 and head[8:9] == b"{":
        return "a safetensors file, weights without a graph"
    if path.suffix.lower() in (".py", ".ipynb") and _is_text(head):
        return "Python" if path.suffix.lower() == ".py" else "a notebook"
    return "text" if _is_text(head) else ""


def export_advice(kind: str) -> str:
    """The sentence that says how to make ONNX of it; empty where that is not known."""
    line = next((line for framework, line in _EXPORTS.items() if framework in kind), "")
    return f" Export it: {line}." if line else ""


def _is_text(head: bytes) -> bool:
    """Whether it reads as text; a character that is cut at its end counts."""
    if b"\x00" in head:
        return False
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < len(head) - 4:
            return False
    return all(byte >= 32 or byte in b"\t\n\r\x0c" for byte in head)
