"""How a declaration names a model where it lies: ``https://``, ``s3://`` and ``gs://`` addresses of
a file, and models of an MLflow registry. Pure.

A declaration is shown in many places (``explain``, versions, logs, the catalogue), so an address
with a password or a signature in it is refused (``runtime.declaration.constrained_types``), and the
refusal does not repeat it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

STORES: Final = ("s3", "gs")
"""Schemes of object stores."""

_ADDRESS: Final = re.compile(r"(?P<scheme>https?|s3|gs)://(?P<host>[^/]*)/(?P<path>.+)")
_MLFLOW: Final = re.compile(
    r"mlflow:(?:models:/(?P<model>[^/@]+)/(?P<version>[0-9]+)|runs:/(?P<run>[0-9A-Za-z_-]+))"
    r"(?:/(?P<path>.+))?"
)
_SCHEMES: Final = ("https://", "http://", "s3://", "gs://", "mlflow:")

MLFLOW_FILE: Final = "model.onnx"
"""The file of a model that MLflow's ONNX flavour has logged."""


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """A file of a web server or an object store.

    Attributes:
        scheme: ``https``, ``http``, ``s3`` or ``gs``.
        host: with its port; of a store the bucket.
        path: without the first slash.
    """

    scheme: str
    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}"


@dataclass(frozen=True, slots=True)
class MlflowLocation:
    """A file of a model of an MLflow server, which says where it lies.

    Attributes:
        model, version: of the registry; empty: ``run`` stands here.
        run: its id.
        path: within the model, or within the run's artifacts.
    """

    model: str
    version: str
    run: str
    path: str

    def __str__(self) -> str:
        place = f"runs:/{self.run}" if self.run else f"models:/{self.model}/{self.version}"
        return f"mlflow:{place}/{self.path}"


Location = ObjectLocation | MlflowLocation


def is_location(reference: str) -> bool:
    """Whether a reference to a model is meant as one of these, right or wrong."""
    return reference.lower().startswith(_SCHEMES)


def parse_location(reference: str) -> Location | None:
    """What a reference names; None: it is of no such form."""
    if found := _ADDRESS.fullmatch(reference):
        return ObjectLocation(**found.groupdict())
    if found := _MLFLOW.fullmatch(reference):
        parts = {name: value or "" for name, value in found.groupdict().items()}
        return MlflowLocation(**{**parts, "path": parts["path"] or MLFLOW_FILE})
    return None


def has_credentials(reference: str) -> bool:
    """Whether an address has a part that may be a secret: a user, a query, a fragment."""
    try:
        parts = urlsplit(reference)
    except ValueError:  # brackets that are no address of IPv6
        return "@" in reference or "?" in reference
    return bool(parts.query or parts.fragment or "@" in parts.netloc or "?" in reference)


_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


def without_credentials(text: str) -> str:
    """A text of another program, without users, queries and fragments of the addresses in it."""
    return _URL.sub(lambda found: _bare(found.group()), text)


def _bare(url: str) -> str:
    scheme, _, rest = url.partition("://")
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
