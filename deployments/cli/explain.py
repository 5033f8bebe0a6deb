"""``wakeful explain``: what a file comes to, each value with where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deployments.cli.options import FILE, echo_json, json_option, pick, read

if TYPE_CHECKING:
    from runtime.settings import Settings
    from runtime.spec import FunctionSpec
    from runtime.specfile import ServeFile


@click.command(short_help="Show what a file comes to, and where each setting comes from.")
@click.argument("file", type=click.Path(path_type=Path), default=FILE)
@click.argument("function", required=False)
@click.option("--host", help="As for `up`, to see what it does.")
@click.option("--port", type=click.IntRange(1, 65535), help="As for `up`, to see what it does.")
@json_option
def explain(file: Path, function: str | None, host: str | None, port: int | None, as_json: bool) -> None:
    """Show what FILE comes to: of each function, or of FUNCTION, the graph, what it takes and gives, and every setting.

    Each setting is printed with its origin: flag, environment, file with its line, or default. Flags go before the environment,
    that goes before the file.
    """
    from runtime.settings import Settings

    settings = Settings.read()
    declared = read(file, settings)
    names = [spec.name for spec in declared.functions]
    chosen = names if function is None else [pick(function, names)]
    functions = {spec.name: _function(spec, declared, settings) for spec in declared.functions if spec.name in chosen}
    common = list(_common(declared, settings, {"host": host, "port": port}))
    if as_json:
        echo_json({"settings": common, "functions": functions})
        return
    _print_settings(common)
    for name, about in functions.items():
        click.echo(f"\n{click.style(name, bold=True)}  {about['description']}")
        for line in about["graph"]:
            click.echo(f"  {line}")
        for side in ("takes", "gives"):
            for key, kind in about[side].items():
                click.echo(f"  {side} {key}: {kind}")
        _print_settings(about["settings"], indent="  ")


def _function(spec: FunctionSpec, declared: ServeFile, settings: Settings) -> dict[str, Any]:
    """Its graph in words, its interface, and its settings.

    Raises:
        DeclarationError: it does not fit together, so there is nothing to explain.
    """
    from runtime.assemble import ModelPart, assemble
    from runtime.errors import DeclarationError
    from runtime.onnx.inspect import inspect

    assembly = assemble(spec, settings, lambda path: ModelPart(path, inspect(path)))
    if assembly.graph is None or assembly.faults:
        raise DeclarationError(
            [declared.problem(f"{declared.stage_key(spec.name, fault.stage)}.{fault.key}", fault.message) for fault in assembly.faults]
        )
    graph = [
        f"{stage.stage}: {stage.onnx or stage.python}  ({', '.join(source.values()) or 'nothing'})"
        for stage, source in zip(spec.graph, assembly.graph.sources, strict=True)
    ]
    return {
        "description": spec.description,
        "graph": graph,
        "takes": {name: f"{port.type}{'' if port.is_required else ', optional'}" for name, port in assembly.graph.fields.items()},
        "gives": {name: str(kind) for name, kind in assembly.graph.answer.items()},
        "settings": list(_settings(spec, declared)),
    }


def _settings(spec: FunctionSpec, declared: ServeFile) -> Iterator[dict[str, Any]]:
    """Every value of a declaration beside its graph."""
    from pydantic import BaseModel

    place = f"{declared.key_of(spec.name)}.args"
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name in ("graph", "name", "route_prefix", "description"):
            continue
        parts = ((f"{name}.{key}", part, key in value.model_fields_set) for key, part in value) if isinstance(value, BaseModel) else ()
        for key, part, is_set in parts if isinstance(value, BaseModel) else ((name, value, name in spec.model_fields_set),):
            yield {"key": key, "value": part, "origin": _in_file(declared, f"{place}.{key}") if is_set else "default"}


def _common(declared: ServeFile, settings: Settings, flags: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What holds for the whole file, and where it comes from."""
    from runtime.settings import VARIABLES

    variable = {field: name for name, field in VARIABLES.items()}
    for key in ("host", "port"):
        if flags[key] is not None:
            yield {"key": key, "value": flags[key], "origin": f"flag --{key}"}
        elif getattr(settings, key) is not None:
            yield {"key": key, "value": getattr(settings, key), "origin": f"environment {variable[key]}"}
        else:
            is_set = key in declared.http.model_fields_set
            origin = _in_file(declared, f"http_options.{key}") if is_set else "default"
            yield {"key": key, "value": getattr(declared.http, key), "origin": origin}
    for key in ("root", "models", "cpus_per_core"):
        origin = f"environment {variable[key]}" if key in settings.given else "default"
        value = getattr(settings, key)
        yield {"key": key, "value": str(value) if isinstance(value, Path) else value, "origin": origin}


def _in_file(declared: ServeFile, key: str) -> str:
    return "{}:{}".format(*declared.locate(key))


def _print_settings(settings: list[dict[str, Any]], indent: str = "") -> None:
    width = max((len(entry["key"]) for entry in settings), default=0)
    for entry in settings:
        value = "unset" if entry["value"] is None else str(entry["value"])
        click.echo(f"{indent}{entry['key']:<{width}}  {value:<24}  {click.style(entry['origin'], dim=True)}")
