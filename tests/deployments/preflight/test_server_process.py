"""What the process that loads functions is given, what its answers may say, and when it is ended.
It is a fake, which answers as the test says.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from deployments.preflight import load_all
from deployments.preflight.load_all import load_all_once
from runtime.declaration.function_spec import FunctionSpec
from runtime.settings import Settings
from runtime.system.secrets import Secrets

SERVER = """\
import json, os, pathlib, pickle, sys, time
sys.path[:] = pickle.load(sys.stdin.buffer)
specs, settings = pickle.load(sys.stdin.buffer)
given = {name: settings.secrets.find(name) for name in ("TOKEN", "OTHER")}
pathlib.Path(settings.root, "given").write_text(json.dumps(given))
pathlib.Path(settings.root, "pid").write_text(str(os.getpid()))
for index, spec in enumerate(specs):
    answer = {"error": "hunter2 is no password"} if spec.name == "f" else {"memory_bytes": 7}
    pickle.dump((index, answer), sys.stdout.buffer)
sys.stdout.buffer.flush()
if pathlib.Path(settings.root, "stays").exists():
    time.sleep(20)
    pathlib.Path(settings.root, "stayed").touch()
"""


def spec(name: str, **given: str) -> FunctionSpec:
    """A function of a stage that is given these."""
    stage = {"stage": "s", "python": "stage_of_a_test:S", "with": given}
    return FunctionSpec.from_args(name, f"/{name}", {"graph": [stage]})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With two secrets."""
    monkeypatch.setattr(load_all, "_START", SERVER)
    secrets = Secrets({"TOKEN": "hunter2", "OTHER": "letmein"})
    return Settings(tmp_path, tmp_path / "models", secrets=secrets)


@pytest.mark.slow
def test_a_load_is_given_the_secrets_of_its_functions_alone(settings: Settings):
    """And none is in what `up` prints."""
    seen: list[str] = []
    results = load_all_once(
        [spec("f", key="${TOKEN}"), spec("g")], settings, lambda result: seen.append(result.error)
    )
    assert [result.error for result in results] == ["${TOKEN} is no password", ""]
    assert sorted(seen) == ["", "${TOKEN} is no password"]
    assert json.loads((settings.root / "given").read_text()) == {"TOKEN": "hunter2", "OTHER": None}


@pytest.mark.slow
def test_a_server_that_does_not_end_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """A moment after its last result; the results count."""
    (settings.root / "stays").touch()
    monkeypatch.setattr(load_all, "END_S", 0.2)
    (result,) = load_all_once([spec("g")], settings)
    assert (result.error, result.memory_bytes) == ("", 7)
    assert not (settings.root / "stayed").exists()
    with pytest.raises(ProcessLookupError):  # it was waited for, too
        os.kill(int((settings.root / "pid").read_text()), 0)
