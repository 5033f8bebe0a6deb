"""docs/declaration.md, settings.md and cli.md, made from the models, the settings and the help of
the command themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deployments.cli import main as wakeful
from runtime.declaration.function_spec import (
    AutoscalingSpec,
    BatchingSpec,
    CaptureSpec,
    DeploymentSpec,
    FunctionArgs,
    LimitsSpec,
    ResourcesSpec,
    SequencesSpec,
    SloSpec,
    StageSpec,
)
from runtime.declaration.http_section import AuthSpec, CorsSpec, HttpSection, KeySpec, TlsSpec
from runtime.declaration.ray_schema import Application, HttpOptions, ServeConfig
from runtime.settings import SETTINGS, VARIABLES

_WORDS: Final = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    dict: "mapping",
    Any: "any",
}

_SECTIONS: Final[tuple[tuple[str, type[BaseModel]], ...]] = (
    ("The file", ServeConfig),
    ("`http_options`", HttpOptions),
    ("`http`", HttpSection),
    ("`http.cors`", CorsSpec),
    ("`http.auth`", AuthSpec),
    ("`http.auth.keys[]`", KeySpec),
    ("`http.tls`", TlsSpec),
    ("`applications[]`", Application),
    ("`applications[].args` of a function", FunctionArgs),
    ("`applications[].args.graph[]`", StageSpec),
    ("`applications[].args.graph[].deployment`", DeploymentSpec),
    ("`applications[].args.batching`", BatchingSpec),
    ("`applications[].args.resources`", ResourcesSpec),
    ("`applications[].args.autoscaling`", AutoscalingSpec),
    ("`applications[].args.limits`", LimitsSpec),
    ("`applications[].args.slo`", SloSpec),
    ("`applications[].args.capture`", CaptureSpec),
    ("`applications[].args.sequences`", SequencesSpec),
)

_DECLARATION_HEAD: Final = """# The declaration

Every key of `serve_config.yaml`: its type, its default and the reason for it. The file is Ray Serve's own
(`ServeDeploySchema` of Ray 2.60); an application whose `import_path` is `deployments:function`, or left out, is a
function, and what stands under its `args` is ours. Unknown keys are refused, at Ray's levels too.

What a file leaves out is supplied: this is a whole one.

```yaml
applications:
  - name: hello
    args: {graph: [{stage: greet, python: "hello:greet"}]}
```

A function is called at `/v2/models/NAME`. A file with functions that names neither `deployments:catalogue` nor
`deployments:host` has both, at `/` and at `/v2/models`, unless another application has that prefix; one that names the
host alone has the catalogue too. One that names the catalogue alone has no host: each of its functions has a
deployment of its own, as one with `tier: own` has. `wakeful export serve` prints the whole form, which `serve deploy`
takes.

For an editor with yaml-language-server (VS Code, Neovim, JetBrains): `wakeful schema > serve_config.schema.json`, and as the file's first line
`# yaml-language-server: $schema=serve_config.schema.json`. It completes the keys below, shows what they are for and marks mistakes.

A word that means one thing to YAML 1.1, which `serve deploy` reads, and another to YAML 1.2, is refused unless it is in quotes: `no`,
`012`, `1:30`, `1e3` or `2026-01-02`; so is a `?` in flow style, as in `{text: When is payday?}`, where YAML 1.1 stops. Aliases, anchors, repeated keys, tags that name a class, more than 32 levels and more than 1 MiB
are refused.

This page is written by `python -m tests.regenerate`; a test fails when it is not up to date.
"""

_SETTINGS_HEAD: Final = """# Settings

What the machine decides and not the declaration, read once from the environment. Order: flag, environment, file, default.
An unknown variable that starts with `WAKEFUL_` is refused.

This page is written by `python -m tests.regenerate`; a test fails when it is not up to date.
"""


_COMMAND_HEAD: Final = """# The command

What a command is asked for goes to standard output, what is wrong and how it goes on to standard error. Where a program might read it there is `--json`:
one value (`check`, `explain`, `status`, `models list`, `scale replay`, `env`), or a line of JSON for each event (`run`) or record (`logs`). `up` has none: after
`wakeful up --detach`, `wakeful status --json` has every function with its URL.

| exit status | |
|---|---|
| 0 | success; of `run` and `up`, a drained end |
| 1 | it failed: the last line of standard error says what, and how to mend it |
| 2 | called wrongly, or the declaration is refused: each problem has its file and line |
| 130 | interrupted before its end; of `run`, `up` and `join`, which drain at the first Ctrl-C or SIGTERM, by a second, which waits for no call |

This page is written by `python -m tests.regenerate`; a test fails when it is not up to date.
"""

_WIDTH: Final = 110


def declaration() -> str:
    """``docs/declaration.md``."""
    return "\n".join([_DECLARATION_HEAD, *(_section(*section) for section in _SECTIONS)])


def settings() -> str:
    """``docs/settings.md``."""
    rows = (
        (f"`{variable}`", SETTINGS[field].wanted, SETTINGS[field].default, SETTINGS[field].reason)
        for variable, field in VARIABLES.items()
    )
    return "\n".join([_SETTINGS_HEAD, _table("Variable", rows)])


def command() -> str:
    """``docs/cli.md``."""
    return "\n".join(
        [
            _COMMAND_HEAD,
            *(
                f"## `{name}`\n\n```text\n{text}\n```\n"
                for name, text in _helps(wakeful, "wakeful")
            ),
        ]
    )


def _helps(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """The help of a command and of those below it, in their order, at a fixed width."""
    settings = {**command.context_settings, "terminal_width": _WIDTH, "max_content_width": _WIDTH}
    ctx = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent, **settings)
    yield name, command.get_help(ctx)
    if isinstance(command, click.Group):
        for below in command.list_commands(ctx):
            found = command.get_command(ctx, below)
            assert found
            yield from _helps(found, f"{name} {below}", ctx)


def _section(title: str, model: type[BaseModel]) -> str:
    rows = (
        (
            f"`{field.alias or name}`",
            _type(field.annotation),
            _default(field),
            field.description or "",
        )
        for name, field in _fields(model)
    )
    return f"## {title}\n\n{(model.__doc__ or '').replace('``', '`')}\n\n{_table('Key', rows)}"


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    return iter(model.model_fields.items())


def _table(first: str, rows: Iterator[tuple[str, ...]]) -> str:
    lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([f"| {first} | Type | Default | Why |", "|---|---|---|---|", *lines, ""])


def _type(annotation: Any) -> str:
    origin, arguments = (
        get_origin(annotation),
        [argument for argument in get_args(annotation) if argument is not NoneType],
    )
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
    return (
        "mapping"
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
        else _WORDS[annotation]
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None or field.default == ():
        return "unset"
    if isinstance(field.default, BaseModel):
        return "its own"
    return f"`{json.dumps(field.default)}`"
