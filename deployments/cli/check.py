"""``wakeful check``: reports everything that is wrong with a file before it is served. ``wakeful
explain``: shows what a file comes to, each value with its origin.

``explain`` draws a function's graph as lines of text: its stages in the order of the flow, what
each takes and gives, and where each runs::

request  image
├ detect         onnx detect.onnx        image → lines
├ each of lines
│ └ recognise    function ocr.recognise  lines → text
│                0 to 2 replicas of 1 CPU; hop 2.10 ms
└ answer         python apps.ocr:answer  text → lines
answer   lines
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deployments.cli.options import (
    FILE,
    complete_function,
    echo_json,
    file_argument,
    hidden_packages,
    json_option,
    key_file_of,
    pick,
    read,
    secrets_option,
    untried_line,
)

if TYPE_CHECKING:
    from runtime.declaration.config_file import ConfigFile
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.errors import Problem
    from runtime.graph.assembly import Assembly
    from runtime.graph.resolve import ResolvedConfig
    from runtime.settings import Settings


@click.command(short_help="Check a file before it is served.")
@file_argument
@secrets_option
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path, secrets: Path | None, as_json: bool) -> None:
    """Check FILE: keys, values, names, stages, models, and whether they fit together.

    Stages are imported and model files read; nothing is started and no model is run. Of each
    function that is right, what it takes and gives is printed: a misspelt parameter shows as a
    field. Functions of which no answer is tried before they are ready are named. A warning is of
    what serves and was probably not meant so. Exit status 2 if something is wrong, 0 with warnings
    alone.
    """
    from deployments.ingress.tls.files import find_problems
    from deployments.rollout.project_folder import missing_build
    from deployments.rollout.unapplied_keys import unused_keys
    from runtime.errors import DeclarationError
    from runtime.graph.resolve import examine
    from runtime.settings import Settings

    problems: Sequence[Problem]
    warnings: Sequence[Problem] = ()
    interfaces: dict[str, dict[str, Any]] = {}
    untried: list[str] = []
    try:
        settings = Settings.read(secrets=secrets, file=file)
        config = examine(read(file, settings), settings)
    except DeclarationError as error:
        problems = error.problems
    else:
        wrong, doubtful = find_problems(config.file, settings.root, time.time())
        problems, interfaces = [*wrong, *config.problems], _interfaces(config)
        lacks = [*hidden_packages(file, settings), *missing_build(config.file)]
        warnings = [*unused_keys(config.file), *doubtful, *config.warnings, *lacks]
        untried = [
            spec.name for spec in config.functions if spec.name in interfaces and not spec.is_tried
        ]
    if as_json:
        found = {
            "problems": list(map(asdict, problems)),
            "warnings": list(map(asdict, warnings)),
            "functions": interfaces,
            "untried": untried,
        }
        echo_json(found)
        ctx.exit(2 if problems else 0)
    for problem in problems:
        click.echo(str(problem))
    for warning in warnings:
        click.echo(f"warning: {warning}")
    for name, interface in interfaces.items():
        click.echo(f"{click.style(name, bold=True)} {_sentence(interface)}")
    if untried:
        click.echo(untried_line(untried))
    if not problems:
        count = len(interfaces)
        functions = f"{count} function{'' if count == 1 else 's'}"
        warned = f", {len(warnings)} warning{'' if len(warnings) == 1 else 's'}" if warnings else ""
        click.echo(f"{file}: {functions}, nothing wrong{warned}.")
    ctx.exit(2 if problems else 0)


def _interfaces(config: ResolvedConfig) -> dict[str, dict[str, Any]]:
    """What each function that is right takes and gives, as it is written in Python, and the headers
    that it reads.
    """
    from runtime.graph.interfaces import format_fields, format_values
    from runtime.types.annotations import REQUEST_ID

    found = {}
    for spec in config.file.functions:
        assembly = config.assemblies[spec.name]
        if assembly.graph is not None and not assembly.issues:
            headers = assembly.graph.headers
            found[spec.name] = {
                "takes": format_fields(assembly.graph.fields),
                "headers": [header for header in headers if header != REQUEST_ID.name],
                "gives": format_values(assembly.graph.answer),
                "streams": assembly.graph.streams,
            }
    return found


def _sentence(interface: dict[str, Any]) -> str:
    names = ", ".join(interface["headers"])
    headers = f"; reads the headers {names}" if names else ""
    gives = f"{'streams' if interface['streams'] else 'gives'} {interface['gives']}"
    return f"takes {interface['takes'] or 'nothing'}{headers}; {gives}"


@click.command(short_help="Show what a file comes to, and where each setting comes from.")
@click.argument("file", type=click.Path(path_type=Path), default=FILE)
@click.argument("function", required=False, shell_complete=complete_function)
@click.option("--host", help="As for `up`, to see what it does.")
@click.option("--port", type=click.IntRange(1, 65535), help="As for `up`, to see what it does.")
@json_option
def explain(
    file: Path, function: str | None, host: str | None, port: int | None, as_json: bool
) -> None:
    """Show what FILE comes to: of each function, or of FUNCTION, the graph, what it takes and
    gives, and every setting.

    The graph shows which stages run over the elements of a list, which on a condition only, which
    have a deployment of their own (their settings stand under `FUNCTION.STAGE`), and what the way
    to those was measured to cost, if the functions are served. Below it stands which stages run on
    one batch, and which rows share it. Each setting is printed with its origin: flag, environment,
    file with its line, or default. Flags go before the environment, that goes before the file.

    A single argument that is no file is FUNCTION of serve_config.yaml.
    """
    from deployments.ray_support.ports import local_url
    from deployments.ray_support.state_dir import StateDir
    from deployments.rollout.catalogue_client import fetch_index
    from runtime.graph.description.settings import find_origins, list_settings
    from runtime.graph.resolve import resolve
    from runtime.settings import Settings
    from runtime.system.secrets import PlaceholderSecrets

    is_file = file.is_file() or file.suffix in (".yaml", ".yml")
    if function is None and not is_file and Path(FILE).exists():
        file, function = Path(FILE), str(file)
    settings = replace(Settings.read(file=file), secrets=PlaceholderSecrets())
    config = resolve(read(file, settings), settings, split=True)
    specs = {spec.name: spec for spec in config.functions}
    chosen = list(specs) if function is None else [pick(function, list(specs))]
    common = list(_common_settings(config.file, settings, {"host": host, "port": port}))
    values = {entry["key"]: entry["value"] for entry in common}
    url = local_url(values["host"], values["port"], is_tls=config.file.tls is not None)
    inner = StateDir().inner_socket if config.file.tls is not None else None
    has_calls = any(specs[name].deployed.calls for name in chosen)
    index = fetch_index(url, inner=inner) if has_calls else None
    hops = {entry["name"]: entry.get("hop_ms", {}) for entry in index or ()}
    functions = {
        name: {
            **_describe_function(config.assemblies[name], specs, url, hops.get(name)),
            "settings": list(list_settings(specs[name], find_origins(specs[name], config))),
        }
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
        for batch in about["batches"]:
            click.echo(f"  batches of {', '.join(batch['stages'])}: {batch['by']}")
        for side in ("takes", "gives"):
            for key, kind in about[side].items():
                click.echo(f"  {side} {key}: {kind}")
        _print_settings(about["settings"], indent="  ")


def _describe_function(
    assembly: Assembly,
    specs: Mapping[str, FunctionSpec],
    url: str,
    hops: Mapping[str, float] | None,
) -> dict[str, Any]:
    """A function's graph, drawn, and its interface.

    Args:
        specs: every function by name.
        url: where they would be served.
        hops: milliseconds that calls of other functions cost this one there; None: it is not
            served.
    """
    from runtime.graph.description.explained import explain_graph
    from runtime.graph.lint.batching_report import describe_batching

    explained = explain_graph(assembly, specs)
    assert explained is not None  # it has been checked
    boxes = [
        Box(
            stage["stage"],
            f"{stage['kind']} {stage['what']}",
            tuple(stage["takes"]),
            tuple(stage["gives"]),
            each=stage["each"],
            when=stage["when"],
            runs=stage["runs"],
            hop=hop_text(hops, stage["what"], url) if stage["runs"] else "",
            calls=tuple(
                f"calls {call['function']}{', when it is constructed' if call['at_load'] else ''}:"
                f" {call['runs']}; {hop_text(hops, call['function'], url)}"
                for call in stage["calls"]
            ),
        )
        for stage in explained["stages"]
    ]
    return {
        "description": assembly.spec.description,
        "graph": draw_graph(list(explained["fields"]), boxes, list(explained["answer"])),
        "stages": [box.to_json() for box in boxes],
        "batches": [
            {"stages": list(batch.stages), "by": batch.by} for batch in describe_batching(assembly)
        ],
        "takes": explained["fields"],
        "gives": explained["answer"],
    }


def _common_settings(
    file: ConfigFile, settings: Settings, flags: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The settings of the whole file, with their origin: those that show where it is served from
    and looked for, and whatever the environment sets.
    """
    from runtime.settings import VARIABLES

    variable = {field: name for name, field in VARIABLES.items()}
    for key in ("host", "port"):
        if flags[key] is not None:
            yield {"key": key, "value": flags[key], "origin": f"flag --{key}"}
        elif getattr(settings, key) is not None:
            yield {
                "key": key,
                "value": getattr(settings, key),
                "origin": f"environment {variable[key]}",
            }
        else:
            is_set = key in file.http.model_fields_set
            origin = _in_file(file, f"http_options.{key}") if is_set else "default"
            yield {"key": key, "value": getattr(file.http, key), "origin": origin}
    if file.auth is not None:
        path, count = key_file_of(file.auth, settings), len(file.auth.keys)
        declared = f", and {count} declared" if count else ""
        yield {
            "key": "http.auth",
            "value": f"keys of {path}{declared}",
            "origin": _in_file(file, "http.auth"),
        }
    for key in dict.fromkeys(("root", "models", "cpus_per_core", *sorted(settings.given))):
        if key in flags:
            continue
        origin = f"environment {variable[key]}" if key in settings.given else "default"
        value = getattr(settings, key)
        yield {
            "key": key,
            "value": str(value) if isinstance(value, Path) else value,
            "origin": origin,
        }


def _in_file(file: ConfigFile, key: str) -> str:
    return "{}:{}".format(*file.locate(key))


def _print_settings(settings: list[dict[str, Any]], indent: str = "") -> None:
    width = max((len(entry["key"]) for entry in settings), default=0)
    for entry in settings:
        value = "unset" if entry["value"] is None else str(entry["value"])
        click.echo(
            f"{indent}{entry['key']:<{width}}  {value:<24}  "
            f"{click.style(entry['origin'], dim=True)}"
        )


@dataclass(frozen=True, slots=True)
class Box:
    """A stage as it is drawn.

    Attributes:
        what: ``python PATH``, ``onnx PATH`` or ``function NAME``.
        takes, gives: names of values.
        each: the value whose elements it runs over; empty: once a row.
        when: which rows it runs for, in words; empty: all.
        runs: where it runs, unless in the function's process.
        hop: what a call to that process costs, in words.
        calls: the functions that it is given, to be called, in words.
    """

    stage: str
    what: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    each: str = ""
    when: str = ""
    runs: str = ""
    hop: str = ""
    calls: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__slots__
        }


def draw_graph(fields: Sequence[str], boxes: Sequence[Box], answer: Sequence[str]) -> list[str]:
    """The lines of a drawing.

    Args:
        fields: what the request has.
        boxes: the stages, in the order of the flow.
        answer: what the function answers.
    """
    groups: list[tuple[str, list[Box]]] = []
    for box in boxes:
        if box.each and groups and groups[-1][0] == box.each:
            groups[-1][1].append(box)
        else:
            groups.append((box.each, [box]))
    rows: list[tuple[str, str, Box | None]] = []
    for index, (each, group) in enumerate(groups, 1):
        corner, beside = ("└", " ") if index == len(groups) else ("├", "│")
        if not each:
            rows.append((f"{corner} {group[0].stage}", beside, group[0]))
            continue
        rows.append((f"{corner} each of {each}", beside, None))
        for inner, stage in enumerate(group, 1):
            inner_corner, inner_beside = ("└", " ") if inner == len(group) else ("├", "│")
            rows.append(
                (f"{beside} {inner_corner} {stage.stage}", f"{beside} {inner_beside}", stage)
            )
    left = max(len(name) for name, _, _ in rows) + 2
    middle = max(len(box.what) for _, _, box in rows if box is not None) + 2
    lines = []
    for name, beside, drawn in rows:
        if drawn is None:
            lines.append(name)
            continue
        when = f"  when {drawn.when}" if drawn.when else ""
        lines.append(
            f"{name:<{left}}{drawn.what:<{middle}}{_list(drawn.takes)} → {_list(drawn.gives)}{when}"
        )
        if drawn.runs or drawn.hop:
            lines.append(f"{beside:<{left}}{'; '.join(filter(None, (drawn.runs, drawn.hop)))}")
        lines += [f"{beside:<{left}}{call}" for call in drawn.calls]
    return [f"request  {_list(fields)}", *lines, f"answer   {_list(answer)}"]


def hop_text(hops: Mapping[str, float] | None, function: str, url: str) -> str:
    """What a call of another function costs, in words.

    Args:
        hops: milliseconds by function, as measured where it is served; None: no catalogue answers.
        url: where the catalogue was asked.
    """
    if hops is None:
        return f"hop not measured: nothing answers at {url}"
    return (
        f"hop {hops[function]:.2f} ms"
        if function in hops
        else "hop not measured: no call has gone to another process"
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
