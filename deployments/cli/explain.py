"""``wakeful explain``: what a file comes to, each value with where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
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

    The graph shows which stages run over the elements of a list, which on a condition only, which have a deployment of their own (their
    settings stand under `FUNCTION.STAGE`), and what the way to those was measured to cost, if the functions are served. Each setting is
    printed with its origin: flag, environment, file with its line, or default. Flags go before the environment, that goes before the file.
    """
    from deployments.routing import index
    from runtime.check import linked
    from runtime.parts import parted
    from runtime.secrets import Undisclosed
    from runtime.settings import Settings
    from runtime.split import owners

    settings = replace(Settings.read(), secrets=Undisclosed())
    written = linked(read(file, settings), settings)
    declared = linked(parted(written), settings)
    specs = {spec.name: spec for spec in declared.functions}
    chosen = list(specs) if function is None else [pick(function, list(specs))]
    common = list(_common(declared, settings, {"host": host, "port": port}))
    at = {entry["key"]: entry["value"] for entry in common}
    url = f"http://{at['host']}:{at['port']}"
    listed = index(url) if any(specs[name].calls for name in chosen) else None
    hops = {entry["name"]: entry.get("hop_ms", {}) for entry in listed or ()}
    parts = {part: f"{declared.stage_key(*whose)}.deployment" for part, whose in owners(written.functions).items()}
    functions = {
        name: {**_function(specs[name], specs, settings, url, hops.get(name)), "settings": list(_settings(specs[name], declared, parts))}
        for name in chosen
    }
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


def _function(
    spec: FunctionSpec, specs: Mapping[str, FunctionSpec], settings: Settings, url: str, hops: Mapping[str, float] | None
) -> dict[str, Any]:
    """Its graph drawn, and its interface.

    Args:
        specs: every function by name.
        url: where they would be served.
        hops: milliseconds that calls of other functions cost this one there; None: it is not served.
    """
    from deployments.cli.drawing import Box, drawing, hop_words
    from runtime.assemble import CalledPart, ModelPart, PythonPart, assemble
    from runtime.branch import condition
    from runtime.onnx.inspect import inspect

    assembly = assemble(spec, settings, lambda path: ModelPart(path, inspect(path)))
    graph = assembly.graph
    assert graph is not None  # it has been checked
    boxes = []
    for stage, part, sources in zip(spec.graph, assembly.parts, graph.sources, strict=True):
        gives: Iterable[str]
        if isinstance(part, PythonPart):
            gives = [name or stage.stage for name in part.signature.gives]
        else:
            gives = part.gives if isinstance(part, CalledPart) else [output.name for output in part.info.outputs] if part else ()
        called = specs[stage.function] if stage.function else None
        boxes.append(
            Box(
                stage.stage,
                f"{stage.kind} {stage.onnx or stage.python or stage.function}",
                tuple(sources.values()),
                tuple(stage.outputs.get(name, name) for name in gives),
                each=stage.each or "",
                when="" if stage.when is None else str(condition(stage.when)),
                runs=_runs(called) if called else "",
                hop=hop_words(hops, called.name, url) if called else "",
            )
        )
    return {
        "description": spec.description,
        "graph": drawing(list(graph.fields), boxes, list(graph.answer)),
        "stages": [box.words() for box in boxes],
        "takes": {name: f"{port.type}{'' if port.is_required else ', optional'}" for name, port in graph.fields.items()},
        "gives": {name: str(kind) for name, kind in graph.answer.items()},
    }


def _runs(called: FunctionSpec) -> str:
    """What a function that is called has of its own."""
    resources, scaling = called.resources, called.autoscaling
    gpus = f", {resources.num_gpus:g} GPUs" if resources.num_gpus else ""
    cpus = f"{resources.num_cpus:g} CPU{'' if resources.num_cpus == 1 else 's'}"
    return f"{scaling.min_replicas} to {scaling.max_replicas} replicas of {cpus}{gpus}"


def _settings(spec: FunctionSpec, declared: ServeFile, parts: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every value of a declaration beside its graph.

    Args:
        parts: where the `deployment` of each part stands; what a part takes stands there, without its section, or is its function's.
    """
    from pydantic import BaseModel

    place = f"{declared.key_of(spec.name)}.args"
    own = parts.get(spec.name, "")
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if name in ("graph", "name", "route_prefix", "description", "calls", "secrets", "made_of"):
            continue
        within = f"{own}." if own and name in ("resources", "autoscaling") else f"{place}.{name}."
        if isinstance(value, BaseModel):
            for key, part in value:
                yield {
                    "key": f"{name}.{key}",
                    "value": part,
                    "origin": _in_file(declared, within + key) if key in value.model_fields_set else "default",
                }
            continue
        is_set = name in spec.model_fields_set and not own
        yield {"key": name, "value": value, "origin": _in_file(declared, f"{place}.{name}") if is_set else "default"}


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
