"""The reference pages of declaration and settings, written from the models themselves: ``python -m runtime.declaration.reference docs``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from runtime.declaration.rayschema import Application, HttpOptions, ServeConfig
from runtime.settings import SETTINGS, VARIABLES
from runtime.spec import (
    ArgsSpec,
    AutoscalingSpec,
    BatchingSpec,
    DeploymentSpec,
    LimitsSpec,
    ResourcesSpec,
    SequencesSpec,
    SloSpec,
    StageSpec,
)

_WORDS: Final = {int: "integer", float: "number", str: "string", bool: "boolean", dict: "mapping", Any: "any"}

_SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("The file", ServeConfig),
    ("`http_options`", HttpOptions),
    ("`applications[]`", Application),
    ("`applications[].args` of a function", ArgsSpec),
    ("`applications[].args.graph[]`", StageSpec),
    ("`applications[].args.graph[].deployment`", DeploymentSpec),
    ("`applications[].args.batching`", BatchingSpec),
    ("`applications[].args.resources`", ResourcesSpec),
    ("`applications[].args.autoscaling`", AutoscalingSpec),
    ("`applications[].args.limits`", LimitsSpec),
    ("`applications[].args.slo`", SloSpec),
    ("`applications[].args.sequences`", SequencesSpec),
)

_DECLARATION_HEAD: Final = """# The declaration

Every key of `serve_config.yaml`: its type, its default and the reason for it. The file is Ray Serve's own
(`ServeDeploySchema` of Ray 2.60), so `serve deploy` takes it unchanged; an application whose `import_path` is
`deployments:function` is a function, and what stands under its `args` is ours. Unknown keys are refused, at Ray's
levels too.

It is YAML that says the same to YAML 1.1, which `serve deploy` reads, and to YAML 1.2: words such as `no`, `012`, `1:30` or
`1e3` go in quotes or are written plainly. Aliases, anchors, tags, keys that stand twice, more than 32 levels and more than
1 MiB are refused.

This page is written by `python -m runtime.declaration.reference docs`; a test fails when it is not up to date.
"""

_SETTINGS_HEAD: Final = """# Settings

What the machine decides and not the declaration, read once from the environment. Order: flag, environment, file, default.
An unknown variable that starts with `WAKEFUL_` is refused.

This page is written by `python -m runtime.declaration.reference docs`; a test fails when it is not up to date.
"""


def declaration() -> str:
    """``docs/declaration.md``."""
    return "\n".join([_DECLARATION_HEAD, *(_section(*section) for section in _SECTIONS)])


def settings() -> str:
    """``docs/settings.md``."""
    rows = (
        (f"`{variable}`", SETTINGS[field].wanted, SETTINGS[field].default, SETTINGS[field].reason) for variable, field in VARIABLES.items()
    )
    return "\n".join([_SETTINGS_HEAD, _table("Variable", rows)])


def _section(title: str, model: type[BaseModel]) -> str:
    rows = (
        (f"`{field.alias or name}`", _type(field.annotation), _default(field), field.description or "") for name, field in _fields(model)
    )
    return f"## {title}\n\n{(model.__doc__ or '').replace('``', '`')}\n\n{_table('Key', rows)}"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return iter(model.model_fields.items())


def _table(first: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([f"| {first} | Type | Default | Why |", "|---|---|---|---|", *lines, ""])


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), [argument for argument in get_args(annotation) if argument is not NoneType]
    if origin is Annotated:
        return _type(arguments[0])
    if origin in (Union, UnionType):
        return "number" if set(arguments) == {int, float} else _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}s"
    if origin is dict:
        return "mapping" if arguments[1] is Any else f"mapping to {_type(arguments[1])}s"
    return "mapping" if isinstance(annotation, type) and issubclass(annotation, BaseModel) else _WORDS[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None:
        return "unset"
    if isinstance(field.default, BaseModel):
        return "its own"
    return f"`{json.dumps(field.default)}`" if field.default != () else "needed"


def main(folder: str) -> None:
    """Write both pages into a folder."""
    for name, page in (("declaration.md", declaration()), ("settings.md", settings())):
        (Path(folder) / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
