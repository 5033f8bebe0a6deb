from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import DeclarationError
from runtime.settings import SETTINGS, VARIABLES, Settings


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        Settings.read(environ)
    return [f"{problem.key}: {problem.message}" for problem in caught.value.problems]


def test_an_empty_environment_is_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs' variables are theirs."""
    monkeypatch.chdir(tmp_path)
    assert Settings.read({"PATH": "/bin", "wakeful_port": "x"}) == Settings(root=tmp_path, models=tmp_path / "models")


def test_every_variable_is_read(tmp_path: Path) -> None:
    """And told apart from a default."""
    environ = {
        "WAKEFUL_ROOT": str(tmp_path),
        "WAKEFUL_MODELS": str(tmp_path / "m"),
        "WAKEFUL_HOST": "0.0.0.0",
        "WAKEFUL_PORT": "9000",
        "WAKEFUL_LOGICAL_CPUS_PER_CORE": "2.5",
        "WAKEFUL_MEMORY_MB": "500",
        "WAKEFUL_PROBE_TIMEOUT_S": "1.5",
        "WAKEFUL_PROBE_MEMORY_MB": "600",
        "WAKEFUL_GPU_MEMORY_MB": "16000",
        "WAKEFUL_HOSTS": "2",
        "WAKEFUL_PROMOTE_WORK": "0.5",
        "WAKEFUL_DRAIN_S": "20",
        "WAKEFUL_SPARE_PROCESSES": "0",
    }
    settings = Settings.read(environ)
    assert settings == Settings(
        tmp_path, tmp_path / "m", "0.0.0.0", 9000, 2.5, 500, 1.5, 600, 16000, 2, 0.5, 20, 0, given=frozenset(SETTINGS)
    )


def test_models_move_with_the_root(tmp_path: Path) -> None:
    """Unless they have a folder of their own."""
    assert Settings.read({"WAKEFUL_ROOT": str(tmp_path)}).models == tmp_path / "models"
    assert Settings.read({"WAKEFUL_ROOT": str(tmp_path)}).given == {"root"}


def test_relative_folders_start_at_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And are absolute from then on."""
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = Settings.read({"WAKEFUL_ROOT": "a", "WAKEFUL_MODELS": "m"})
    assert (settings.root, settings.models) == (tmp_path / "a", tmp_path / "m")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when asked, not at import."""
    monkeypatch.setenv("WAKEFUL_PORT", "1234")
    assert Settings.read().port == 1234


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WAKEFUL_PORT", "http", "'http' is given, an integer from 1 to 65535 is wanted."),
        ("WAKEFUL_PORT", "0", "'0' is given, an integer from 1 to 65535 is wanted."),
        ("WAKEFUL_PORT", "65536", "'65536' is given, an integer from 1 to 65535 is wanted."),
        ("WAKEFUL_PORT", "+80", "'+80' is given, an integer from 1 to 65535 is wanted."),
        ("WAKEFUL_PORT", "", "'' is given, an integer from 1 to 65535 is wanted."),
        ("WAKEFUL_HOST", "a b", "'a b' is given, an address is wanted."),
        ("WAKEFUL_HOST", "", "'' is given, an address is wanted."),
        ("WAKEFUL_MODELS", "", "'' is given, a folder is wanted."),
        ("WAKEFUL_ROOT", "/nowhere/at/all", "'/nowhere/at/all' is given, a folder that exists is wanted."),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "nan", "'nan' is given, a number above 0 is wanted."),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "0", "'0' is given, a number above 0 is wanted."),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "four", "'four' is given, a number above 0 is wanted."),
        ("WAKEFUL_MEMORY_MB", "0", "'0' is given, an integer above 0 is wanted."),
        ("WAKEFUL_MEMORY_MB", "1.5", "'1.5' is given, an integer above 0 is wanted."),
        ("WAKEFUL_PROT", "80", "unknown variable, did you mean WAKEFUL_PORT?"),
        ("WAKEFUL_MODEL_DIR", "m", "unknown variable, did you mean WAKEFUL_MODELS?"),
        (
            "WAKEFUL_QQ",
            "1",
            f"unknown variable; known are {', '.join(VARIABLES)}.",
        ),
    ],
)
def test_a_wrong_variable_is_refused(variable: str, value: str, message: str) -> None:
    """With what is wanted, or what was meant."""
    assert problems({variable: value}) == [f"{variable}: {message}"]


def test_every_wrong_variable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go."""
    assert len(problems({"WAKEFUL_PORT": "x", "WAKEFUL_ROOTS": "y", "WAKEFUL_HOST": "z z"})) == 3
