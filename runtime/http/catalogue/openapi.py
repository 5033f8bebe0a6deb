"""The served functions as an OpenAPI 3.1 document: each route with what it takes and answers.

It is written from what is declared (``runtime.graph.description.interface_schemas``), so nothing is
loaded or woken for it, and where the functions' code is not at hand it can be written too. Bodies
and answers have the schemas of the functions' own types; errors have one form, with the codes of
each status from ``runtime.errors``.

Source: OpenAPI Specification 3.1.1; JSON Schema, draft 2020-12.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from runtime.declaration.function_spec import FunctionSpec
from runtime.http.catalogue.function_operations import Names, function_paths
from runtime.http.catalogue.openapi_parts import (
    SERVER_TAG,
    TASKS_TAG,
    JsonObject,
    catalogue_paths,
    error_responses,
    fixed_parts,
    task_paths,
)
from runtime.types.json_schemas import InterfaceDescription

VERSION: Final = "3.1.1"

_ABOUT: Final = """\
Each function is called by `POST` at its path: an object is answered by an object, and an array \
of objects by an array of their answers, in which a row that failed is an error. At `/infer` below \
it the same function answers in the Open Inference Protocol v2. A function that sleeps is woken by \
its call.

Rows may also come as a form, or as lines of JSON (`application/x-ndjson`), and any body \
compressed (gzip, zstd).

A number that is NaN or infinite is written as `null`, which JSON has instead. Bytes are base64 \
text. Every error has the same form, with a stable `code`.
"""


@dataclass(frozen=True, slots=True)
class DescribedFunction:
    """A function that clients may call; ``interface`` is None where it is not known."""

    spec: FunctionSpec
    interface: InterfaceDescription | None


Describe = Callable[[], tuple[Hashable, Callable[[], Iterable[DescribedFunction]]]]
"""Returns a mark that changes with what is declared, and what reads the functions. The first is
asked on each request.
"""


MOST_TEXTS: Final = 16
"""Of one version: of all functions, and of sets that keys open."""


class OpenApiText:
    """The document as JSON text, written once for each version of what is declared, and for each
    set of functions that a key opens.

    Args:
        describe: the functions.
        paths: the catalogue's routes.

    Mutable state: ``_mark``, of the last version, and ``_written``, its texts by what is seen.
    ``read`` may be called in any thread; two at a time write the same.
    """

    def __init__(self, describe: Describe, paths: Sequence[str]) -> None:
        self._describe = describe
        self._paths = paths
        self._mark: Hashable = None
        self._written: dict[frozenset[str] | None, tuple[bytes, str]] = {}

    def read(self, seen: frozenset[str] | None = None) -> tuple[bytes, str]:
        """Return the text and its entity tag.

        Args:
            seen: the names of the functions that it is to have; None: all.
        """
        mark, read_functions = self._describe()
        if mark != self._mark:
            self._mark, self._written = mark, {}
        texts = self._written
        written = texts.get(seen)
        if written is None:
            functions = [one for one in read_functions() if seen is None or one.spec.name in seen]
            text = orjson.dumps(make_document(functions, self._paths, seen))
            if len(texts) >= MOST_TEXTS:
                texts.clear()
            written = texts[seen] = text, f'"{hashlib.sha256(text).hexdigest()[:32]}"'
        return written


def make_document(
    functions: Sequence[DescribedFunction],
    paths: Sequence[str] = (),
    seen: Collection[str] | None = None,
) -> JsonObject:
    """Return the document, as plain data.

    Args:
        paths: the catalogue's routes; those that are not known here are left out.
        seen: the names of functions that it may have; None: any.
    """
    names, parts = Names(), fixed_parts()
    tasks = {one.spec.name: one.spec.task for one in functions if one.spec.task is not None}
    described, of_tasks = task_paths(tasks)
    schemas = {**parts["schemas"], **of_tasks}
    for name in schemas:
        names.take(name)
    described |= catalogue_paths(paths)
    operations = Names()
    for operation in (one for path in described.values() for one in path.values()):
        operations.take(operation["operationId"])
    tags: list[JsonObject] = []
    for function in functions:
        spec = function.spec
        more, added = function_paths(spec, function.interface, names, operations, seen)
        described |= more
        schemas |= added
        tags.append({"name": spec.name, "description": spec.description or spec.name})
    if tasks:
        tags.append({"name": TASKS_TAG, "description": "Functions by what they do."})
    tags.append({"name": SERVER_TAG, "description": "The server, and what is declared on it."})
    return {
        "openapi": VERSION,
        "info": {
            "title": "Wakeful",
            "version": importlib.metadata.version("wakeful"),
            "description": _ABOUT,
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": described,
        "components": {
            "schemas": schemas,
            "responses": error_responses(),
            "parameters": parts["parameters"],
            "headers": parts["headers"],
        },
    }
