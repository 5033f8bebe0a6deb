"""Probing functions that load well, and those that fail in every way a process can."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from deployments.preflight import LoadResult, load_all_once
from runtime.declaration.function_spec import FunctionSpec
from runtime.onnx import prepared_model
from runtime.onnx.prepared_model import find_prepared
from runtime.onnx.providers import plan_session
from runtime.settings import Settings
from tests import onnx_models

pytestmark = pytest.mark.slow

STAGES = """\
import ctypes, os, subprocess, sys, threading
from pathlib import Path
from probed_helper import VALUE

class Stage:
    def __call__(self, x: float) -> float:
        return x + VALUE

class Large(Stage):
    def __init__(self): self.held = bytearray(b"x") * 30_000_000

class Larger(Stage):
    def __init__(self):
        self.held = bytearray(b"x") * 120_000_000
        threading.Event().wait(0.3)  # so that two of them hold it at once

class Given(Stage):
    def __init__(self, file: Path): self.text = file.read_text()

class Raises(Stage):
    def __init__(self):
        print("connecting to the database")
        raise RuntimeError("there is no database")

class Exits(Stage):
    def __init__(self): sys.exit(3)

class EndsItself(Stage):
    def __init__(self): os._exit(4)

class LeavesAProcess(Stage):
    def __init__(self):
        Path(__file__).with_name("left").write_text(str(subprocess.Popen(["sleep", "600"]).pid))

class Segfaults(Stage):
    def __init__(self): ctypes.string_at(0)

class Eats(Stage):
    def __init__(self): self.held = [bytearray(b"x") * 10_000_000 for _ in range(1000)]

class Hangs(Stage):
    def __init__(self): threading.Event().wait()

class KillsItsParent(Stage):
    def __init__(self):
        Path(__file__).with_name("orphan").write_text(str(os.getpid()))
        os.kill(os.getppid(), 9)
        threading.Event().wait()

class Floods(Stage):
    def __init__(self):
        for _ in range(50_000):
            print("x" * 1000)
        threading.Event().wait()
"""

TIMEOUT_S = 6.0


def spec(name: str, *graph: dict[str, Any], **args: Any) -> FunctionSpec:
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": list(graph), **args})


def python(what: str, **given: Any) -> dict[str, Any]:
    return {
        "stage": "work",
        "python": f"probed_stages:{what}",
        **({"with": given} if given else {}),
    }


def write_stages(folder: Path, value: int = 0) -> None:
    """The stages and the module that they import."""
    (folder / "probed_stages.py").write_text(STAGES)
    (folder / "probed_helper.py").write_text(f"VALUE = {value}\n")


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the stages."""
    folder = tmp_path_factory.mktemp("zoo")
    write_stages(folder)
    return folder


@pytest.fixture(scope="module")
def others() -> list[psutil.Process]:
    """Processes that other tests have left to this one, such as multiprocessing's."""
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def zoo(zoo_folder: Path, others: list[psutil.Process]) -> Iterator[dict[str, LoadResult]]:
    """One probe of each, all at once."""
    folder = zoo_folder
    # those that take their time first, side by side: after one that is too large each is alone
    names = [
        "Hangs",
        "Floods",
        "Stage",
        "Large",
        "Larger",
        "LeavesAProcess",
        "Raises",
        "Exits",
        "EndsItself",
        "Segfaults",
        "Eats",
        "Missing",
    ]
    specs = [spec(name, python(name), example={"x": 1}) for name in names]
    specs += [
        spec("Larger2", python("Larger"), example={"x": 2}),
        spec("fails", python("Stage"), example={"x": "text"}),
    ]
    settings = Settings(folder, folder / "models", probe_timeout_s=TIMEOUT_S, probe_memory_mb=200)
    sys.path.insert(0, str(folder))
    yield {probe.name: probe for probe in load_all_once(specs, settings)}
    sys.path.remove(str(folder))


def test_a_function_that_loads_is_measured(zoo: dict[str, LoadResult]) -> None:
    """Its own memory, not that of what everything needs; seconds by phase."""
    assert zoo["Stage"].error == ""
    assert zoo["Stage"].memory_bytes < 3_000_000
    assert 29_000_000 < zoo["Large"].memory_bytes < 34_000_000
    assert {"import", "read", "stages", "warm_up"} <= set(zoo["Stage"].load_s)
    assert zoo["Stage"].took_s > 0
    assert not zoo["Stage"].cached


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "Raises",
            ["RuntimeError: there is no database", "connecting to the database"],
        ),
        ("Exits", ["SystemExit: 3", "probed_stages.py"]),
        ("EndsItself", ["exit status 4"]),
        ("Segfaults", ["SIGSEGV (Segmentation fault)", "probed_stages.py"]),
        ("Eats", ["200 MB", "WAKEFUL_PROBE_MEMORY_MB"]),
        ("Hangs", [f"after {TIMEOUT_S:g} s", "WAKEFUL_PROBE_TIMEOUT_S", "in wait"]),
        ("Floods", [f"after {TIMEOUT_S:g} s", "WAKEFUL_PROBE_TIMEOUT_S"]),
        ("Missing", ["'Missing'"]),
        ("fails", ["declared example", "x"]),
    ],
)
def test_a_function_that_fails_says_why(
    zoo: dict[str, LoadResult], name: str, parts: list[str]
) -> None:
    """In words, with what it wrote."""
    assert all(part in zoo[name].error for part in parts), zoo[name].error
    assert len(zoo[name].error) < 3000


def test_functions_that_do_not_fit_next_to_each_other_are_probed_one_at_a_time(
    zoo: dict[str, LoadResult],
) -> None:
    """Two of 120 MB within 200: neither is at fault."""
    assert (zoo["Larger"].error, zoo["Larger2"].error) == ("", "")
    assert zoo["Larger2"].memory_bytes > 110_000_000


def test_nothing_is_left_running(
    zoo: dict[str, LoadResult], zoo_folder: Path, others: list[psutil.Process]
) -> None:
    """Neither what hung, nor what ran it, nor what a load started."""
    assert set(psutil.Process().children(recursive=True)) <= set(others)
    assert zoo["LeavesAProcess"].error == ""
    left = int((zoo_folder / "left").read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


Change = Callable[[Path, Settings], dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a model, stages and a file that one of them is given."""
    write_stages(tmp_path)
    (tmp_path / "given.txt").write_text("given")
    onnx_models.perceptron(tmp_path / "m.onnx")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def declared(**args: Any) -> list[FunctionSpec]:
    """A function of two stages and one of a model."""
    return [
        spec("given", python("Given", file="given.txt"), **{"example": {"x": 1}, **args}),
        spec(
            "model",
            {"stage": "model", "onnx": "m.onnx"},
            **({"batching": args["batching"]} if "batching" in args else {}),
        ),
    ]


def runs(specs: list[FunctionSpec], settings: Settings) -> dict[str, bool]:
    """Name to whether it had to be run."""
    results: list[LoadResult] = []
    found = load_all_once(specs, settings, results.append)
    assert [probe.name for probe in found] == [spec.name for spec in specs]
    assert {probe.name: probe for probe in results} == {probe.name: probe for probe in found}
    assert all(not probe.error for probe in found), found
    return {probe.name: not probe.cached for probe in found}


def test_what_loaded_well_is_not_run_again(folder: Path) -> None:
    """Until something that it depends on changes; what it does not depend on may."""
    settings = Settings(folder, folder / "models")
    assert runs(declared(), settings) == {"given": True, "model": True}
    assert runs(declared(), settings) == {"given": False, "model": False}
    (folder / "unrelated.py").write_text("")
    again = declared(limits={"max_rows": 7}, description="changed")
    assert runs(again, settings) == {"given": False, "model": False}
    assert runs(
        [
            spec(
                "another",
                *[stage.model_dump(by_alias=True, exclude_none=True) for stage in again[1].graph],
            )
        ],
        settings,
    ) == {"another": False}


def _change_module(folder: Path, settings: Settings) -> dict[str, Any]:
    (folder / "probed_stages.py").write_text(STAGES + "\n")
    return {}


def _change_imported_module(folder: Path, settings: Settings) -> dict[str, Any]:
    write_stages(folder, value=10)
    return {}


def _change_given_file(folder: Path, settings: Settings) -> dict[str, Any]:
    (folder / "given.txt").write_text("another")
    return {}


def _change_example(folder: Path, settings: Settings) -> dict[str, Any]:
    return {"example": {"x": 2}}


def _change_batching(folder: Path, settings: Settings) -> dict[str, Any]:
    return {"batching": {"max_batch_size": 3}}


def _change_model(folder: Path, settings: Settings) -> dict[str, Any]:
    onnx_models.perceptron(folder / "m.onnx", seed=1)
    return {}


def _remove_prepared(folder: Path, settings: Settings) -> dict[str, Any]:
    shutil.rmtree(settings.models / prepared_model.FOLDER)
    return {}


CHANGES: Final[tuple[tuple[Change, bool, bool], ...]] = (
    (_change_module, True, False),
    (_change_imported_module, True, False),
    (_change_given_file, True, False),
    (_change_model, False, True),
    (_remove_prepared, False, True),
    (_change_example, True, False),
    (_change_batching, True, True),
)
"""And whether `given` and `model` are run after it."""


@pytest.mark.full
def test_a_change_runs_what_depends_on_it(folder: Path) -> None:
    """And nothing else; one change after the other."""
    settings, args = Settings(folder, folder / "models"), {}
    runs(declared(), settings)
    for change, given, model in CHANGES:
        args |= change(folder, settings)
        assert runs(declared(**args), settings) == {"given": given, "model": model}, change
        assert find_prepared(folder / "m.onnx", plan_session(0, None), settings.models) is not None


def test_a_failure_is_not_remembered(folder: Path) -> None:
    """What is repaired from outside is found at the next look."""
    (folder / "given.txt").unlink()
    settings = Settings(folder, folder / "models")
    assert "'given.txt'" in load_all_once(declared()[:1], settings)[0].error
    (folder / "given.txt").write_text("given")
    assert runs(declared()[:1], settings) == {"given": True}


def test_functions_of_one_declaration_share_a_probe(folder: Path) -> None:
    """It runs once, and each gets the result."""
    specs = [spec(f"copy{index}", python("Stage"), example={"x": 1}) for index in range(5)]
    found = load_all_once(specs, Settings(folder, folder / "models"))
    assert [probe.name for probe in found] == [spec.name for spec in specs]
    assert len({probe.took_s for probe in found}) == 1


def test_what_needs_a_device_is_left_to_its_own_deployment(folder: Path) -> None:
    """This machine need not have one."""
    found = load_all_once(
        [spec("gpu", {"stage": "model", "onnx": "m.onnx"}, resources={"num_gpus": 0.5})],
        Settings(folder, folder / "models"),
    )
    assert found[0].skipped
    assert not found[0].error


def test_a_folder_that_cannot_be_written_keeps_nothing(folder: Path) -> None:
    """The probes are good all the same."""
    (folder / "models").write_text("a file where the folder should be")
    settings = Settings(folder, folder / "models")
    assert runs(declared(), settings) == {"given": True, "model": True}
    assert runs(declared()[:1], settings) == {"given": True}


class ToldError(Exception):
    """What a listener may raise; Ctrl-C is no different."""


def test_a_caller_that_stops_leaves_nothing_running(
    folder: Path, others: list[psutil.Process]
) -> None:
    """An exception in the caller ends what still loads."""

    def on_result(probe: LoadResult) -> None:
        raise ToldError

    specs = [
        spec("hangs", python("Hangs"), example={"x": 1}),
        spec("works", python("Stage"), example={"x": 1}),
    ]
    with pytest.raises(ToldError):
        load_all_once(specs, Settings(folder, folder / "models"), on_result)
    assert set(psutil.Process().children(recursive=True)) <= set(others)


def test_a_function_that_ends_the_whole_of_probing_is_an_error(folder: Path) -> None:
    """And nothing hangs, nor goes on without bounds."""
    found = load_all_once(
        [spec("killer", python("KillsItsParent"), example={"x": 1})],
        Settings(folder, folder / "models"),
    )
    assert "ended with -9" in found[0].error
    with contextlib.suppress(psutil.NoSuchProcess):  # no other process would end the load
        psutil.Process(int((folder / "orphan").read_text())).wait(timeout=5)


@pytest.mark.models
@pytest.mark.full  # services/test_shipped_functions.py: `up` loads each of them
def test_shipped_functions_load(root: Path, models: Path) -> None:
    """Within the budget of the machine that it was written on."""
    from runtime.declaration import config_file
    from runtime.graph.resolve import resolve

    settings = Settings(root, models)
    functions = resolve(config_file.read(root / "serve_config.yaml"), settings).functions
    found = {probe.name: probe for probe in load_all_once(functions, settings)}
    assert {name: probe.error for name, probe in found.items()} == dict.fromkeys(found, "")
    assert 5_000_000 < found["embed"].memory_bytes < 60_000_000
    assert found["embed"].mapped_bytes > 10_000_000
    assert found["forecast"].memory_bytes < 3_000_000
    assert found["search"].memory_bytes < 3_000_000  # what it calls is not its own
