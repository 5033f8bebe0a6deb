"""``wakeful models``, which fetches models and lists them, and ``wakeful add``, which makes a model
of a hub, or those of a Triton repository, functions.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

import click

from deployments.cli.options import FILE, echo_json, json_option
from deployments.cli.terminal import new_table, print_table
from runtime.errors import LoadError, StoreError, WakefulError
from runtime.system.files import LOCK_FILE, resolve_path
from runtime.system.messages import clip, did_you_mean

MAX_LINE: Final = 600
"""Characters of what is said of a model of a repository, which repeats words of its configuration.
"""

if TYPE_CHECKING:
    from runtime.artifacts.pull import Event
    from runtime.declaration.function_spec import DeclaredSpec
    from runtime.settings import Settings

lock_option = click.option(
    "--lock",
    type=click.Path(path_type=Path),
    help="File that pins the models; models.lock beside the file of functions, unless given.",
)


@click.group()
def models() -> None:
    """Fetch models, and list them."""


file_option = click.option(
    "--file",
    "-f",
    type=click.Path(path_type=Path),
    default=FILE,
    show_default=True,
    help="File that declares the functions.",
)


@models.command()
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@lock_option
@file_option
def pull(names: tuple[str, ...], lock: Path | None, file: Path) -> None:
    """Fetch, check and build the models of the lock, or those named; and those that the functions
    of the file have by name, or that their stages have by an address (`s3:`, `gs:`, `https:`,
    `mlflow:`), by `pypi:` or by `hf:`.

    Every file is checked against the lock's hashes. A model by name or by its address that the lock
    does not have is pinned there. What is there already is left alone; an interrupted pull goes on
    where it was. ONNX models are prepared for this machine, so that functions wake fast.
    """
    from runtime.artifacts.lockfile import read_lock_if_there
    from runtime.artifacts.named_models.repositories import pull_named
    from runtime.artifacts.pull import pull as pull_models
    from runtime.artifacts.pull import pull_source
    from runtime.artifacts.remote.pulling import pull_located
    from runtime.declaration.config_file import read
    from runtime.declaration.constrained_types import MODEL_NAME, is_remote
    from runtime.settings import Settings
    from runtime.system.model_locations import is_location

    settings = Settings.read(file=file)
    lock = lock or file.parent / LOCK_FILE
    import_builders_from(lock)
    specs = read(file).functions if file.exists() else ()
    named = [spec for spec in specs if spec.model]
    sources = {
        stage.onnx: stage
        for spec in specs
        for stage in spec.graph
        if stage.onnx and is_remote(stage.onnx)
    }
    located = read_lock_if_there(lock).files
    tasks = {
        (spec.model or "").removeprefix("hf:"): spec.task
        for spec in named
        if MODEL_NAME.fullmatch(spec.model or "")
    }
    chosen = [key for key in tasks if _is_chosen(key, names)]
    others = [
        name
        for name in names
        if name not in sources
        and name not in located
        and not any(_is_chosen(key, [name]) for key in chosen)
    ]
    results = []
    if others or (not names and (lock.exists() or not (named or sources))):
        results = pull_models(lock, settings.models, show_event, others)
    pinned = read_lock_if_there(lock).select_repositories(names)
    for key in dict.fromkeys([*pinned, *chosen]):
        results.append(pull_named(key, tasks.get(key), lock, settings.models, show_event))
    for source in dict.fromkeys([*sources, *located]):
        if names and source not in names:
            continue
        stage = sources.get(source)
        if is_location(source):
            results.append(pull_located(source, stage, lock, settings.models, show_event))
        elif stage is not None and stage.sha256:
            results.append(pull_source(source, stage.sha256, settings.models, show_event))
    onnx = [file for result in results for file in result.files if file.suffix == ".onnx"]
    for spec in named:
        if spec.quantize is not None and _is_chosen((spec.model or "")[3:], names):
            onnx += _quantize(spec, settings)
    prepare_models(onnx, settings)
    made = [result for result in results if result.made]
    count = f"{len(results)} model{' is' if len(results) == 1 else 's are'}"
    click.echo(f"{count} there, {len(made)} of them new.")


def import_builders_from(lock: Path) -> None:
    """Has Python look for the builders of a lock beside it, as for stages beside their file."""
    if (folder := str(resolve_path(lock).parent)) not in sys.path:
        sys.path.insert(0, folder)


def _is_chosen(key: str, names: Sequence[str]) -> bool:
    """Whether a pull of these names, or of all, is one of ``ORG/REPO@COMMIT``."""
    return not names or key in names or key.partition("@")[0] in names


def _quantize(spec: DeclaredSpec, settings: Settings) -> list[Path]:
    """Makes the int8 form of a function's model, unless it is there; returns it if it was made."""
    from runtime.artifacts.named_models.quantization import quantize_model
    from runtime.artifacts.pull import Event

    def show(remark: str) -> None:
        show_event(Event(spec.name, "note", remark))

    made = quantize_model(spec, settings, show)
    return [made] if made else []


@click.command(short_help="Add models of a hub, or of a folder of Triton's, to a file.")
@click.argument("repository", metavar="ORG/REPO[@REVISION]|DIR")
@click.option(
    "--task",
    metavar="TASK",
    help="embedding, rerank, text-classification, token-classification or image-classification;"
    " what the hub says, unless given.",
)
@click.option("--name", help="Of the function; the repository's, unless given.")
@file_option
@click.option("--onnx", metavar="PATH", default="", help="The ONNX file, if there are several.")
@click.option("--quantize", type=click.Choice(["int8"]), help="Serve the model in int8.")
def add(
    repository: str,
    task: str | None,
    name: str | None,
    file: Path,
    onnx: str,
    quantize: Literal["int8"] | None,
) -> None:
    """Add a model of a hub to a file, as a function that calls it by name; or the ONNX models of a
    folder that is a model repository of Triton's, a function each.

    The newest commit of ORG/REPO, or that of REVISION, is pinned with the sha256 of its files in
    `models.lock` beside the file, fetched into the folder of models, and looked at: only what can
    be served gets into the file, of which nothing else is changed. The hub is that of
    `HF_ENDPOINT`; `HF_TOKEN` opens what is private.

    Of each `config.pbtxt` of DIR, batching, instances and ensembles become declarations; what was
    taken and what was left is printed. A function that the file has already is left as it is.
    """
    if (folder := Path(repository)).is_dir():
        given = {"--task": task, "--name": name, "--onnx": onnx, "--quantize": quantize}
        if option := next((option for option, value in given.items() if value), ""):
            raise click.UsageError(f"{option} is about a model of a hub, and {folder} is a folder.")
        _add_repository(folder, file)
        return
    from runtime.artifacts.hub import look_up
    from runtime.artifacts.named_models.expansion import expand_model
    from runtime.artifacts.named_models.repositories import guess_task, pull_named
    from runtime.declaration.config_file import read
    from runtime.declaration.constrained_types import TaskName, is_name
    from runtime.declaration.editing.file_edit import with_application
    from runtime.declaration.function_spec import DeclaredSpec
    from runtime.onnx.model_info import inspect_model
    from runtime.settings import Settings
    from runtime.system.files import write_in_place

    tasks = get_args(TaskName)
    if task is not None and task not in tasks:
        hint = did_you_mean(task, tasks) or f"; there are {', '.join(tasks)}."
        raise click.BadParameter(f"{task!r} is no task{hint}", param_hint="--task")
    settings = Settings.read(file=file)
    repository, _, revision = repository.partition("@")
    name = name or repository.rpartition("/")[2]
    if repository.count("/") != 1:
        raise click.BadParameter(
            f"{repository!r} is not ORG/REPO, as the hub's address of it ends.",
            param_hint="ORG/REPO",
        )
    if not is_name(name):
        raise click.BadParameter(
            f"{name!r} is not the name of a function: letters, digits, '.', '_' and '-'.",
            param_hint="--name",
        )
    declared = read(file) if file.exists() else None
    if declared is not None and name in (one["name"] for one in declared.raw["applications"]):
        raise StoreError(f"{file} has a function {name!r}. Give this one another name: `--name`.")
    found = look_up(repository, revision)
    chosen = cast(TaskName | None, task) or guess_task(found)
    if chosen is None:
        says = f"is for {found.task}" if found.task else "says nothing of what it does"
        raise StoreError(
            f"{repository} {says}. Say which task it has here: `--task` with one of"
            f" {', '.join(tasks)}."
        )
    model = f"hf:{repository}@{found.commit}"
    args = {"model": model, "task": chosen, **({"quantize": quantize} if quantize else {})}
    spec = DeclaredSpec.from_args(name, f"/v2/models/{name}", args)
    key = model.removeprefix("hf:")
    with _unchanged_if_refused(lock := file.parent / LOCK_FILE):
        pulled = pull_named(key, chosen, lock, settings.models, show_event, found=found, onnx=onnx)
        made = _quantize(spec, settings) if quantize else []
        expand_model(spec, settings, inspect_model)
    prepare_models(made or [path for path in pulled.files if path.suffix == ".onnx"], settings)
    text = file.read_text(encoding="utf-8") if declared is not None else ""
    write_in_place(file, with_application(text, _entry(name, args, is_whole="import_path" in text)))
    click.echo(
        f"{file} has the function {name!r} now ({chosen}). Its stages: `wakeful explain {file}"
        f" {name}`."
    )


def _add_repository(folder: Path, file: Path) -> None:
    """Adds the models of a Triton repository to a file, and says of each what became of it."""
    from runtime.artifacts.triton.repository import is_model_repository, translate_repository
    from runtime.declaration.config_file import read
    from runtime.declaration.editing.file_edit import with_application
    from runtime.settings import Settings
    from runtime.system.files import write_in_place

    if is_model_repository(folder.parent) and not is_model_repository(folder):
        raise StoreError(
            f"{folder} is one model. Add its repository: `wakeful add {folder.parent}`."
        )
    if not is_model_repository(folder):
        raise StoreError(
            f"{folder} has no models of Triton's: NAME/config.pbtxt, or NAME/1/model.onnx. A folder"
            f" with a model of a hub is declared as `model: {folder}`, with its `task`."
        )
    settings = Settings.read(file=file)
    declared = read(file) if file.exists() else None
    taken = [one["name"] for one in declared.raw["applications"]] if declared is not None else []
    text, added = file.read_text(encoding="utf-8") if declared is not None else "", []
    for model in translate_repository(folder, settings.root, taken):
        why = (
            model.found.refusal
            or _find_fault(model.name, model.found.args, settings)
            or _prepare(model.files, settings)
        )
        if why:
            click.echo(f"{model.name}: left out: {clip(why.rstrip('.'), MAX_LINE)}.")
            continue
        entry = _entry(model.name, model.found.args, is_whole="import_path" in text)
        text = with_application(text, entry)
        added.append(model)
        click.echo(f"{model.name}: added.")
        for verb, parts in (("took", model.found.took), ("left", model.found.left)):
            for part in parts:
                click.echo(f"  {verb} {clip(part, MAX_LINE)}")
    if not added:
        raise StoreError(f"no model of {folder} was added.")
    write_in_place(file, text)
    count = f"{len(added)} function{'' if len(added) == 1 else 's'} more"
    click.echo(f"{file} has {count} now: {', '.join(model.name for model in added)}.")


def _prepare(files: Sequence[Path], settings: Settings) -> str:
    """Prepares the models of a function; returns why ONNX Runtime does not open one of them, empty
    if it opens all.
    """
    try:
        prepare_models(list(files), settings)
    except LoadError as error:
        return str(error)
    return ""


def _find_fault(name: str, args: dict[str, Any], settings: Settings) -> str:
    """Why a function cannot be served; empty if it can."""
    from pydantic import ValidationError

    from runtime.declaration.function_spec import FunctionSpec
    from runtime.graph.assembly import assemble
    from runtime.graph.resolved_stages import ResolvedModel
    from runtime.onnx.model_info import inspect_model

    try:
        spec = FunctionSpec.from_args(name, f"/v2/models/{name}", args)
    except ValidationError as error:
        return "; ".join(one["msg"] for one in error.errors())
    found = assemble(spec, settings, lambda path: ResolvedModel(path, inspect_model(path)))
    return "; ".join(issue.message for issue in found.issues)


@contextlib.contextmanager
def _unchanged_if_refused(lock: Path) -> Iterator[None]:
    """Takes back what was written into a lock when the model cannot be served after all."""
    before = lock.read_bytes() if lock.exists() else None
    try:
        yield
    except WakefulError:
        if before is None:
            lock.unlink(missing_ok=True)
        else:
            lock.write_bytes(before)
        raise


def _entry(name: str, args: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """The application as it is written: whole where the file's others are."""
    if not is_whole:
        return {"name": name, "args": args}
    from runtime.declaration.editing.whole_form import IMPORT_PATHS

    return {
        "name": name,
        "route_prefix": f"/v2/models/{name}",
        "import_path": IMPORT_PATHS["function"],
        "args": args,
    }


@models.command(name="list")
@lock_option
@file_option
@json_option
def list_models(lock: Path | None, file: Path, as_json: bool) -> None:
    """List the models of the lock and whether they are there."""
    from runtime.artifacts.named_models.repositories import list_repositories
    from runtime.artifacts.pull import list_models
    from runtime.artifacts.remote.pulling import list_located
    from runtime.settings import Settings

    settings = Settings.read(file=file)
    lock = lock or file.parent / LOCK_FILE
    listed = [
        *list_models(lock, settings.models),
        *list_repositories(lock, settings.models),
        *list_located(lock, settings.models),
    ]
    if as_json:
        echo_json(
            [{**asdict(entry), "files": [str(file) for file in entry.files]} for entry in listed]
        )
        return
    table = new_table()
    for column in ("model", "state", "MB", "files", "from", "licence"):
        table.add_column(column, overflow="fold")
    for entry in listed:
        files = "\n".join(file.name for file in entry.files)
        table.add_row(
            entry.model,
            entry.state,
            f"{entry.size_bytes / 1e6:.1f}",
            files,
            entry.source,
            entry.licence,
        )
    print_table(table)


def prepare_models(files: list[Path], settings: Settings) -> None:
    """Prepares models for this machine, but for those whose prepared form is still valid."""
    from runtime.onnx.preparation import prepare_model
    from runtime.onnx.prepared_model import find_prepared
    from runtime.onnx.providers import plan_session

    for file in files:
        if find_prepared(file, plan_session(0, None), settings.models) is None:
            began = time.monotonic()
            form = prepare_model(file, plan_session(0, None), settings)
            what = f"stays as it is: {form.why}" if form.why else "prepared for this machine"
            click.echo(
                f"{file.parent.name}: {file.name} {what} in {time.monotonic() - began:.1f} s",
                err=True,
            )


def show_event(event: Event) -> None:
    """Prints one step of a pull."""
    size = f" {event.size_bytes / 1e6:.1f} MB" if event.size_bytes else ""
    took = f" in {event.seconds:.1f} s" if event.seconds else ""
    click.echo(
        f"{event.model}: {event.step}{f' {event.detail}' if event.detail else ''}{size}{took}",
        err=True,
    )
