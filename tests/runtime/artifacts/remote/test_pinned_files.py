"""Models by their addresses: what they must be, where they are kept, and that they come from an S3
bucket, one of Google's, a web server and an MLflow server.
"""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from runtime.artifacts.lockfile import LocatedFile, PinnedFile, read_lock
from runtime.artifacts.pull import Event
from runtime.artifacts.remote import pinned_files
from runtime.artifacts.remote.download import PartialFile
from runtime.artifacts.remote.pinned_files import WantedFile, fetch_located, wanted_file
from runtime.artifacts.remote.pulling import list_located, pull_located
from runtime.artifacts.sources import resolve_source
from runtime.declaration.stage_spec import StageSpec
from runtime.errors import StoreError
from tests.onnx_models import double
from tests.runtime.artifacts.remote.servers import Files, answer, cut_after, serve_files

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return double(tmp_path / "made" / "m.onnx").read_bytes()


def with_weights(folder: Path, location: str = "model.onnx_data") -> tuple[bytes, bytes]:
    """A model whose weights lie beside it, and those."""
    made = onnx.load(str(double(folder / "m.onnx")))
    made.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "more"))
    onnx.save(
        made,
        str(folder / "w.onnx"),
        save_as_external_data=True,
        location=location,
        size_threshold=100,
    )
    return (folder / "w.onnx").read_bytes(), (folder / location).read_bytes()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(source: str, folder: Path, wanted: WantedFile = WantedFile()):  # noqa: B008 (frozen)
    return fetch_located(source, wanted, folder, lambda step, text: None, sleep=lambda wait_s: None)


def pinned(digest: str, **weights: str) -> LocatedFile:
    files = {name: PinnedFile(sha256=one, bytes=1) for name, one in weights.items()}
    return LocatedFile(sha256=digest, bytes=1, weights=files)


@pytest.mark.parametrize(
    ("sha", "weights", "lock", "wanted"),
    [
        (None, {}, None, WantedFile(None, None)),
        (A, {}, None, WantedFile(A, None)),
        (A, {"w": B}, None, WantedFile(A, {"w": B})),
        (None, {}, pinned(A), WantedFile(A, {})),
        (None, {}, pinned(A, w=B), WantedFile(A, {"w": B})),
        (A, {}, pinned(A, w=B), WantedFile(A, {"w": B})),
        (A, {"w": C}, pinned(A, w=B), WantedFile(A, {"w": C})),
        (B, {}, pinned(A, w=B), WantedFile(B, None)),
        (B, {"w": C}, pinned(A, w=B), WantedFile(B, {"w": C})),
    ],
)
def test_the_declaration_goes_before_the_lock(
    sha: str | None, weights: dict[str, str], lock: LocatedFile | None, wanted: WantedFile
) -> None:
    """What the lock says of another file says nothing."""
    assert wanted_file(sha, weights, lock) == wanted


def use_s3(monkeypatch: pytest.MonkeyPatch, files: Files) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", files.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def test_a_model_of_s3(tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for with the environment's credentials, found by serving, and once."""
    pytest.importorskip("s3fs")
    with serve_files({"bucket/a/m.onnx": model}) as files:
        use_s3(monkeypatch, files)
        found, (path,), is_new = fetch("s3://bucket/a/m.onnx", tmp_path)
        assert is_new
        assert "Credential=key/" in files.headers["authorization"]
        count = len(files.requests)
        assert fetch("s3://bucket/a/m.onnx", tmp_path, WantedFile(found.sha256))[2] is False
    assert len(files.requests) == count
    assert (path.name, path.read_bytes(), found.sha256) == ("m.onnx", model, sha256(model))
    assert resolve_source("s3://bucket/a/m.onnx", found.sha256, tmp_path, tmp_path) == path


def test_a_large_model_of_s3_goes_on(
    tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Piece by piece; one that is replaced meanwhile begins anew."""
    pytest.importorskip("s3fs")
    from runtime.artifacts.remote import stores

    monkeypatch.setattr(stores, "CHUNK_BYTES", 40)
    with serve_files({"bucket/m.onnx": model}) as files:
        use_s3(monkeypatch, files)

        def replaced(handler: object, content: bytes) -> bool:
            files.contents["bucket/m.onnx"] = model + model
            return False

        files.faults = [None, replaced]
        with pytest.raises(StoreError, match="is wanted"):
            fetch("s3://bucket/m.onnx", tmp_path, WantedFile(sha256(model)))
        files.contents["bucket/m.onnx"] = model
        _, (path,), _ = fetch("s3://bucket/m.onnx", tmp_path, WantedFile(sha256(model)))
    assert path.read_bytes() == model
    assert any("bytes=40-79" in line for line in files.requests)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [("bucket/none.onnx", None, "is not there"), ("bucket/m.onnx", 403, "AWS_PROFILE")],
)
def test_a_refusal_of_s3_says_what_to_do(
    tmp_path: Path,
    path: str,
    status: int | None,
    message: str,
    model: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a credential in it."""
    pytest.importorskip("s3fs")
    with serve_files({"bucket/m.onnx": model}) as files:
        use_s3(monkeypatch, files)
        files.faults = [answer(status)] * 20 if status else []
        with pytest.raises(StoreError, match=message) as refused:
            fetch(f"s3://{path}", tmp_path)
    assert "hidden" not in str(refused.value)


def test_a_full_disk_is_no_interruption(
    tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said at once, and not tried again."""
    pytest.importorskip("s3fs")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with serve_files({"bucket/m.onnx": model}) as files:
        use_s3(monkeypatch, files)
        monkeypatch.setattr(PartialFile, "begin_anew", full)
        with pytest.raises(StoreError, match="Free some space"):
            fetch("s3://bucket/m.onnx", tmp_path)
    assert len(files.requests) == 1


def test_a_model_of_google(tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """By gcsfs, at the address that its emulators have."""
    pytest.importorskip("gcsfs")
    with serve_files({"bucket/a/m.onnx": model}) as files:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", files.url)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        _, (path,), _ = fetch("gs://bucket/a/m.onnx", tmp_path)
        with pytest.raises(StoreError, match="is not there"):
            fetch("gs://bucket/none.onnx", tmp_path)
    assert path.read_bytes() == model


def test_a_model_of_a_web_server(tmp_path: Path, model: bytes) -> None:
    """An address of characters that URLs escape; interrupted, and checked."""
    with serve_files({"a b/m.onnx": model}) as files:
        source = f"{files.url}/a b/m.onnx"
        files.faults = [cut_after(50)]
        _, (path,), _ = fetch(source, tmp_path, WantedFile(sha256(model)))
        assert path.read_bytes() == model
        assert files.requests == ["GET /a%20b/m.onnx", "GET /a%20b/m.onnx bytes=49-"]
        with pytest.raises(StoreError, match=f"{sha256(model)} and {A} is wanted"):
            fetch(source, tmp_path, WantedFile(A))
        with pytest.raises(StoreError, match="over http may be anything"):
            fetch(source, tmp_path)
    assert [path for path in tmp_path.rglob("*.onnx") if ".fetched" in path.parts] == [path]


@pytest.mark.parametrize(
    ("source", "answers", "path"),
    [
        (
            "mlflow:models:/churn/3",
            {
                "/api/2.0/mlflow/model-versions/get-download-uri?name=churn&version=3": {
                    "artifact_uri": "mlflow-artifacts:/1/abc/artifacts/model"
                }
            },
            "1/abc/artifacts/model/model.onnx",
        ),
        (
            "mlflow:models:/churn/4/net/m.onnx",
            {
                "/api/2.0/mlflow/model-versions/get-download-uri?name=churn&version=4": {
                    "artifact_uri": "models:/m-0123"
                },
                "/api/2.0/mlflow/logged-models/m-0123": {
                    "model": {
                        "info": {"artifact_uri": "mlflow-artifacts:/1/models/m-0123/artifacts"}
                    }
                },
            },
            "1/models/m-0123/artifacts/net/m.onnx",
        ),
        (
            "mlflow:models:/churn/5",
            {
                "/api/2.0/mlflow/model-versions/get-download-uri?name=churn&version=5": {
                    "artifact_uri": "runs:/abc/net"
                },
                "/api/2.0/mlflow/runs/get?run_id=abc": {
                    "run": {"info": {"artifact_uri": "mlflow-artifacts:/1/abc/artifacts"}}
                },
            },
            "1/abc/artifacts/net/model.onnx",
        ),
        (
            "mlflow:runs:/abc/model/model.onnx",
            {
                "/api/2.0/mlflow/runs/get?run_id=abc": {
                    "run": {"info": {"artifact_uri": "mlflow-artifacts://host/1/abc/artifacts"}}
                }
            },
            "1/abc/artifacts/model/model.onnx",
        ),
    ],
)
def test_a_model_of_mlflow(
    tmp_path: Path,
    source: str,
    answers: dict[str, object],
    path: str,
    model: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server says where it lies, and hands it on, with the token of the environment."""
    with serve_files({path: model}) as files:
        files.answers = answers
        monkeypatch.setenv("MLFLOW_TRACKING_URI", files.url)
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden")
        _, (found,), _ = fetch(source, tmp_path)
    assert found.read_bytes() == model
    assert files.headers["authorization"] == "Bearer hidden"


@pytest.mark.parametrize(
    ("uri", "answered", "message"),
    [
        ("", None, "Set it, as https://mlflow.example"),
        ("sqlite:///mlflow.db", None, "a store of files or a database is not read"),
        (None, {"artifact_uri": "dbfs:/x"}, "lie at dbfs:, which is not read here"),
        (None, {"artifact_uri": "https://user:hidden@host/x"}, "lie at https:"),
        (None, {"artifact_uri": 7}, "not as MLflow does"),
        (None, [], "not as MLflow does"),
    ],
)
def test_what_mlflow_says_is_not_believed(
    tmp_path: Path,
    uri: str | None,
    answered: object,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither a place that cannot be read, nor a password in it."""
    with serve_files({}) as files:
        path = "/api/2.0/mlflow/model-versions/get-download-uri?name=n&version=1"
        files.answers = {path: answered}
        monkeypatch.setenv("MLFLOW_TRACKING_URI", files.url if uri is None else uri)
        with pytest.raises(StoreError, match=message) as refused:
            fetch("mlflow:models:/n/1", tmp_path)
    assert "hidden" not in str(refused.value)


def test_weights_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are pinned, kept beside the model, and those of another version do not mix with them."""
    model, weights = with_weights(tmp_path)
    contents = {"a/model.onnx": model, "a/model.onnx_data": weights}
    with serve_files(contents) as files:
        source, lock = f"{files.url}/a/model.onnx", tmp_path / "models.lock"
        with pytest.raises(StoreError, match="over http may be anything"):
            fetch(source, tmp_path / "none", WantedFile(sha256(model)))
        digests = {"model.onnx_data": sha256(weights)}
        stage = StageSpec(stage="m", onnx=source, sha256=sha256(model), weights=digests)
        first = pull_located(source, stage, lock, tmp_path, lambda event: None)
        assert [path.read_bytes() for path in first.files] == [model, weights]
        assert read_lock(lock).files[source].weights["model.onnx_data"].sha256 == sha256(weights)
        (listed,) = list_located(lock, tmp_path)
        assert (listed.state, listed.size_bytes) == ("present", len(model) + len(weights))

        other = weights[::-1]
        files.contents["a/model.onnx_data"] = other
        stage = stage.model_copy(update={"weights": {"model.onnx_data": sha256(other)}})
        second = pull_located(source, stage, lock, tmp_path, lambda event: None)
        assert [path.read_bytes() for path in second.files] == [model, other]
        assert [path.read_bytes() for path in first.files] == [model, weights]
        with pytest.raises(StoreError, match="is wanted"):
            fetch(source, tmp_path / "b", WantedFile(sha256(model), digests))
        with pytest.raises(StoreError, match="of which nothing is pinned"):
            fetch(source, tmp_path / "c", WantedFile(sha256(model), {}))


@pytest.mark.parametrize("location", ["../x.data", "/x.data", ".x"])
def test_weights_elsewhere_are_refused(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model decides nothing outside of its folder."""
    model = with_weights(tmp_path, "w.data")[0]
    named = location.encode().ljust(6, b"x")
    changed = model.replace(b"w.data", named[:6])
    with serve_files({"m.onnx": changed}) as files, pytest.raises(StoreError, match="not beside"):
        fetch(f"{files.url}/m.onnx", tmp_path, WantedFile(sha256(changed)))


def test_a_page_is_no_model(tmp_path: Path) -> None:
    """What a server answers instead of a file is not kept."""
    page = b"<html>please log in</html>"
    with serve_files({"m.onnx": page}) as files, pytest.raises(StoreError, match="no ONNX model"):
        fetch(f"{files.url}/m.onnx", tmp_path, WantedFile(sha256(page)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".pull"]


def test_a_pull_writes_what_it_found(tmp_path: Path, model: bytes) -> None:
    """Into the lock, once; what a declaration asks for later takes its place there."""
    events: list[Event] = []
    with serve_files({"m.onnx": model}) as files:
        source, lock = f"{files.url}/m.onnx", tmp_path / "models.lock"
        lock.write_text("# mine\n\n[wheels.a]\nversion = '1'\nsha256 = '" + A + "'\nbytes = 1\n")
        stage = StageSpec(stage="m", onnx=source, sha256=sha256(model))
        for _ in range(2):
            pull_located(source, stage, lock, tmp_path, events.append)
        text = lock.read_text()
        assert text.startswith("# mine\n\n[wheels.a]")
        assert text.count(sha256(model)) == 1
        new = model + b"\x00\x00"[:0] + onnx_with_doc(model)
        files.contents["m.onnx"] = new
        stage = stage.model_copy(update={"sha256": sha256(new)})
        pull_located(source, stage, lock, tmp_path, events.append)
    assert [event.step for event in events if event.step not in ("note", "fetching")] == [
        "fetched",
        "kept",
        "fetched",
    ]
    assert sha256(model) not in lock.read_text()
    assert read_lock(lock).files[source].sha256 == sha256(new)
    assert read_lock(lock).wheels["a"].version == "1"


def onnx_with_doc(model: bytes) -> bytes:
    """A field that protobuf adds to what stands before it."""
    return onnx.ModelProto(doc_string="another version").SerializeToString()


def _pull(url: str, digest: str, folder: Path) -> None:
    pinned_files.fetch_located(url, WantedFile(digest), folder, lambda step, text: None)


@pytest.mark.slow
def test_a_file_is_fetched_once_at_a_time(tmp_path: Path, model: bytes) -> None:
    """Of two processes of a machine, the second waits and finds it."""
    with serve_files({"m.onnx": model}) as files:
        context = multiprocessing.get_context("spawn")
        both = [
            context.Process(target=_pull, args=(f"{files.url}/m.onnx", sha256(model), tmp_path))
            for _ in range(2)
        ]
        for one in both:
            one.start()
        for one in both:
            one.join(60)
        assert [one.exitcode for one in both] == [0, 0]
    assert files.requests == ["GET /m.onnx"]
