from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from runtime.errors import DeclarationError, Problem
from runtime.settings import SETTINGS, Settings, captures_folder, client_key
from tests.problems import problems_in


def problems(environ: dict[str, str]) -> tuple[Problem, ...]:
    with pytest.raises(DeclarationError) as caught:
        Settings.read(environ)
    return problems_in(caught.value)


def test_an_empty_environment_is_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs' variables are theirs."""
    monkeypatch.chdir(tmp_path)
    assert Settings.read({"PATH": "/bin", "wakeful_port": "x"}) == Settings(
        root=tmp_path,
        models=tmp_path / "models",
        captures=captures_folder(tmp_path, {}),
        keys=Path("/.local/state/wakeful/keys.json"),
    )


def test_a_client_s_key_is_no_setting() -> None:
    """It is read where one is sent, and shown nowhere."""
    key = "wk_" + "Zk3" * 14 + "Q"
    settings = Settings.read({"WAKEFUL_KEY": key})
    assert key not in repr(settings)
    assert settings.given == frozenset()
    assert client_key({"WAKEFUL_KEY": f" {key}\n"}) == key
    assert client_key({}) == ""


def test_recorded_calls_lie_outside_of_the_project(tmp_path: Path) -> None:
    """Among what programs keep of a user; two projects of one name do not meet."""
    home = {"HOME": "/home/me"}
    first, second = (captures_folder(tmp_path / of / "shop", home) for of in ("a", "b"))
    assert first.parent == second.parent == Path("/home/me/.local/state/wakeful/captures")
    assert first != second
    assert first.name.startswith("shop-")
    moved = captures_folder(tmp_path, home | {"XDG_STATE_HOME": "/var/state"})
    assert moved.parent == Path("/var/state/wakeful/captures")
    assert captures_folder(tmp_path, home | {"XDG_STATE_HOME": "relative"}).parent == first.parent


def test_every_variable_is_read(tmp_path: Path) -> None:
    """And distinguished from a default."""
    environ = {
        "WAKEFUL_ROOT": str(tmp_path),
        "WAKEFUL_MODELS": str(tmp_path / "m"),
        "WAKEFUL_HOST": "0.0.0.0",
        "WAKEFUL_PORT": "9000",
        "WAKEFUL_LOGICAL_CPUS_PER_CORE": "2.5",
        "WAKEFUL_WORKERS": "3",
        "WAKEFUL_MEMORY_MB": "500",
        "WAKEFUL_PROBE_TIMEOUT_S": "1.5",
        "WAKEFUL_PROBE_MEMORY_MB": "600",
        "WAKEFUL_GPU_MEMORY_MB": "16000",
        "WAKEFUL_HOSTS": "2",
        "WAKEFUL_PROMOTE_WORK": "0.5",
        "WAKEFUL_DRAIN_S": "20",
        "WAKEFUL_SPARE_PROCESSES": "0",
        "WAKEFUL_METRICS_FUNCTIONS": "50",
        "WAKEFUL_ACCESS_LOG": "logs/access",
        "WAKEFUL_ACCESS_LOG_MB": "10",
        "WAKEFUL_LOG_LEVEL": "info",
        "WAKEFUL_CAPTURES": str(tmp_path / "c"),
        "WAKEFUL_KEYS": str(tmp_path / "k.json"),
    }
    settings = Settings.read(environ)
    assert settings == Settings(
        tmp_path,
        tmp_path / "m",
        "0.0.0.0",
        9000,
        2.5,
        3,
        500,
        1.5,
        600,
        16000,
        2,
        0.5,
        20,
        0,
        50,
        tmp_path / "logs" / "access",
        10,
        "INFO",
        tmp_path / "c",
        tmp_path / "k.json",
        given=frozenset(SETTINGS),
    )


def test_models_move_with_the_root(tmp_path: Path) -> None:
    """Unless they have a folder of their own."""
    assert Settings.read({"WAKEFUL_ROOT": str(tmp_path)}).models == tmp_path / "models"
    assert Settings.read({"WAKEFUL_ROOT": str(tmp_path)}).given == {"root"}


def test_relative_folders_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And are absolute from then on."""
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = Settings.read({"WAKEFUL_ROOT": "a", "WAKEFUL_MODELS": "m"})
    assert (settings.root, settings.models) == (tmp_path / "a", tmp_path / "m")


@pytest.mark.parametrize("written", ["b/f.yaml", "./a/../b/f.yaml", "{}/b/f.yaml"])
def test_relative_paths_start_at_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """However it is named, and beside a link to it; the environment goes before it."""
    monkeypatch.chdir(tmp_path)
    for folder in ("b", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / "f.yaml").symlink_to(tmp_path / "elsewhere" / "f.yaml")
    file = Path(written.format(tmp_path))
    settings = Settings.read({}, file=file)
    assert (settings.root, settings.models) == (tmp_path / "b", tmp_path / "b" / "models")
    environ = {"WAKEFUL_ROOT": str(tmp_path / "elsewhere")}
    assert Settings.read(environ, file=file).root == tmp_path / "elsewhere"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the call, not at import."""
    monkeypatch.setenv("WAKEFUL_PORT", "1234")
    assert Settings.read().port == 1234


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WAKEFUL_PORT", "http"),
        ("WAKEFUL_PORT", "0"),
        ("WAKEFUL_PORT", "65536"),
        ("WAKEFUL_PORT", "+80"),
        ("WAKEFUL_PORT", ""),
        ("WAKEFUL_HOST", "a b"),
        ("WAKEFUL_HOST", ""),
        ("WAKEFUL_MODELS", ""),
        (
            "WAKEFUL_ROOT",
            "/nowhere/at/all",
        ),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "nan"),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "0"),
        ("WAKEFUL_LOGICAL_CPUS_PER_CORE", "four"),
        ("WAKEFUL_MEMORY_MB", "0"),
        ("WAKEFUL_MEMORY_MB", "1.5"),
        ("WAKEFUL_PROT", "80"),
        ("WAKEFUL_MODEL_DIR", "m"),
        (
            "WAKEFUL_QQ",
            "1",
        ),
    ],
)
def test_a_wrong_variable_is_refused(variable: str, value: str) -> None:
    """With what is wanted, or what was meant."""
    assert [problem.key for problem in problems({variable: value})] == [variable]


def test_every_wrong_variable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one go."""
    assert len(problems({"WAKEFUL_PORT": "x", "WAKEFUL_ROOTS": "y", "WAKEFUL_HOST": "z z"})) == 3


def test_what_kubernetes_says_of_a_service_is_no_setting() -> None:
    """Each pod of the namespace gets these, for Services ``wakeful`` and ``wakeful-web``."""
    links = {
        "WAKEFUL_SERVICE_HOST": "10.0.0.1",
        "WAKEFUL_SERVICE_PORT": "8000",
        "WAKEFUL_SERVICE_PORT_HTTP": "8000",
        "WAKEFUL_PORT": "tcp://10.0.0.1:8000",
        "WAKEFUL_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "WAKEFUL_PORT_8000_TCP_PROTO": "tcp",
        "WAKEFUL_PORT_8000_TCP_PORT": "8000",
        "WAKEFUL_PORT_8000_TCP_ADDR": "10.0.0.1",
        "WAKEFUL_WEB_SERVICE_HOST": "10.0.0.2",
        "WAKEFUL_WEB_PORT": "udp://10.0.0.2:53",
    }
    assert Settings.read(links).given == frozenset()
    assert len(problems({"WAKEFUL_WEB_PORT": "80", "WAKEFUL_SERVICE": "x"})) == 2


@pytest.mark.parametrize(
    ("of_traces", "of_all", "is_right"),
    [
        ("", "", True),
        ("", "http/protobuf", True),
        ("http/protobuf", "grpc", True),
        ("", "grpc", False),
        ("grpc", "http/protobuf", False),
    ],
)
def test_the_protocol_of_traces_goes_before_that_of_everything(
    of_traces: str, of_all: str, is_right: bool
) -> None:
    """An empty variable is one that is not set, as OpenTelemetry's specification has it."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": of_traces,
        "OTEL_EXPORTER_OTLP_PROTOCOL": of_all,
    }
    with nullcontext() if is_right else pytest.raises(DeclarationError):
        Settings.read(environ)
