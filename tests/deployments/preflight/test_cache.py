"""Probes kept on disk, and when they hold."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deployments.preflight import LoadResult
from deployments.preflight.load_all import FOLDER, MAX_RESULTS, Cache
from runtime.declaration.function_spec import FunctionSpec
from runtime.settings import Settings
from runtime.system.files import file_state

STAGE = {"stage": "s", "python": "tests.basic_stages:greet"}


def spec(name: str = "greet", **args: Any) -> FunctionSpec:
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": [STAGE], **args})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, tmp_path / "models")


@pytest.mark.parametrize(
    ("args", "same"),
    [
        ({}, True),
        (
            {"description": "other", "autoscaling": {"min_replicas": 1}, "limits": {"max_rows": 5}},
            True,
        ),
        ({"example": {"name": "a"}}, False),
        ({"batching": {"max_batch_size": 2}}, False),
        ({"resources": {"num_cpus": 2}}, False),
        ({"deployed": {"made_of": {"code": "other"}}}, False),
        ({"graph": [{**STAGE, "python": "tests.basic_stages:answer"}]}, False),
    ],
)
def test_a_key_is_what_a_load_depends_on(
    settings: Settings, args: dict[str, Any], same: bool
) -> None:
    """Not the name, nor what only serving reads."""
    cache = Cache(settings)
    assert (cache.key(spec()) == cache.key(spec("another", **args))) is same


def test_limits_of_the_load_are_in_the_key(settings: Settings) -> None:
    """With another limit it may end another way."""
    keys = {
        Cache(each).key(spec())
        for each in (
            settings,
            replace(settings, probe_memory_mb=100),
            replace(settings, probe_timeout_s=5),
        )
    }
    assert len(keys) == 3


def test_a_probe_holds_while_its_files_are_as_they_were(settings: Settings, tmp_path: Path) -> None:
    """One that was not there must not be there."""
    file, absent = tmp_path / "file", tmp_path / "absent"
    file.write_text("one")
    probe = LoadResult("greet", 5, 6, {"read": 0.5})
    Cache(settings).put(
        "key", asdict(probe), {str(path): file_state(path) for path in (file, absent)}
    )
    assert Cache(settings).get("key") == probe
    assert Cache(settings).get("other") is None
    absent.write_text("")
    assert Cache(settings).get("key") is None
    absent.unlink()
    assert Cache(settings).get("key") == probe
    file.write_text("other")
    assert Cache(settings).get("key") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"probe": {"name": "x", "unknown": 1}, "files": {}}',
        '{"probe": {"name": "x"}}',
    ],
)
def test_what_cannot_be_read_is_no_probe(settings: Settings, content: str) -> None:
    """A cut file, or another version's."""
    folder = settings.models / FOLDER
    folder.mkdir(parents=True)
    (folder / "key.json").write_text(content)
    assert Cache(settings).get("key") is None


def test_the_oldest_go(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number that no file of functions reaches."""
    monkeypatch.setattr("deployments.preflight.load_all.MAX_RESULTS", 2)
    cache = Cache(settings)
    for age, name in enumerate("abc"):
        cache.put(name, asdict(LoadResult("x")), {})
        os.utime(settings.models / FOLDER / f"{name}.json", ns=(0, time.time_ns() - age * 10**9))
    cache.trim()
    assert [cache.get(name) is not None for name in "abc"] == [True, True, False]
    assert MAX_RESULTS > 10_000
