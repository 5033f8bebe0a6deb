"""Reading the lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.artifacts.lockfile import PinnedFile, PinnedRepository, read_lock, write_pins
from runtime.errors import StoreError
from tests.problems import expect_values
from tests.runtime.artifacts.packages import lock

SHA = "0" * 64
MEMBERS = 'members = {"model.onnx" = "tiny_model/model.onnx"}\n'


def test_the_lock_of_the_repository_is_valid(root):
    """It names what apps need, each hash in place."""
    found = read_lock(root / "models.lock")
    assert {"minilm", "forecast"} <= set(found.models)
    assert "model.int8.onnx" in found.models["minilm"].files


@pytest.mark.parametrize(
    ("model", "values"),
    [
        ('members = {"../model.onnx" = "a"}', ["models.tiny.members.", "'../model.onnx'"]),
        ('members = {"a/../../m.onnx" = "a"}', ["models.tiny.members.", "'a/../../m.onnx'"]),
        ('members = {"/model.onnx" = "a"}', ["models.tiny.members.", "'/model.onnx'"]),
        ('members = {".stamp.json" = "a"}', ["models.tiny.members.", "'.stamp.json'"]),
        ("members = {}", ["models.tiny.members: ", "at least 1"]),
        (MEMBERS + "recipe = 0", ["models.tiny.recipe: ", "greater", "1"]),
        (MEMBERS + 'recipe = "1"', ["models.tiny.recipe: ", "integer"]),
        (MEMBERS + 'colour = "red"', ["models.tiny.colour: ", "Extra"]),
        (MEMBERS + 'build = "a:b"', ["models.tiny: ", "build", "outputs"]),
        (MEMBERS + 'build = "no function"\noutputs = ["x"]', ["models.tiny.build: "]),
        (
            MEMBERS + 'also = {"tiny-modl" = {"a" = "b"}}',
            ["models.tiny.also: ", "'tiny-modl'", "tiny-model?"],
        ),
        (
            MEMBERS + 'also = {"tiny-model" = {"a" = "b"}}',
            ["models.tiny: ", "also.tiny-model", "own wheel"],
        ),
        (MEMBERS + 'also = {"tiny-model" = {}}', ["models.tiny.also.tiny-model: ", "at least 1"]),
    ],
)
def test_a_wrong_model_is_refused(tmp_path, model, values):
    """The key at fault is named."""
    expect_values(refused(tmp_path, model), *values)


def test_two_wheels_write_no_file_twice(tmp_path):
    """Which of them it was would be chance; a file of another name is taken."""
    path = lock(tmp_path / "models.lock", SHA, MEMBERS + 'also = {"other" = {"NAME" = "o/m"}}')
    text = f'[wheels.other]\nversion = "1"\nsha256 = "{SHA}"\nbytes = 1\n' + path.read_text()
    path.write_text(text.replace("NAME", "labels.txt"))
    assert read_lock(path).models["tiny"].files == ("model.onnx", "labels.txt")
    path.write_text(text.replace("NAME", "model.onnx"))
    with pytest.raises(StoreError, match=r"model\.onnx: comes from two wheels"):
        read_lock(path)


def refused(folder: Path, model: str) -> StoreError:
    """The error of a lock with a wrong model."""
    with pytest.raises(StoreError) as caught:
        read_lock(lock(folder / "models.lock", SHA, model))
    return caught.value


def test_a_wrong_hash_form_is_refused(tmp_path):
    """A sha256 has 64 digits."""
    with pytest.raises(StoreError, match=r"wheels\.tiny-model\.sha256"):
        read_lock(lock(tmp_path / "models.lock", "abc"))


def test_an_unknown_wheel_names_the_nearest(tmp_path):
    """models.NAME.wheel has to be a key of wheels."""
    path = lock(tmp_path / "models.lock", SHA)
    path.write_text(path.read_text().replace('wheel = "tiny-model"', 'wheel = "tiny-modl"'))
    with pytest.raises(StoreError, match=r"'tiny-modl'.*tiny-model\?"):
        read_lock(path)


def test_several_hashes_for_several_platforms(tmp_path):
    """A list is taken as well as one."""
    path = lock(tmp_path / "models.lock", SHA)
    path.write_text(path.read_text().replace(f'"{SHA}"', f'["{SHA}", "{"1" * 64}"]'))
    assert read_lock(path).wheels["tiny-model"].hashes == (SHA, "1" * 64)


def test_a_missing_or_broken_file_says_so(tmp_path):
    """Which file, and what is wrong with it."""
    with pytest.raises(StoreError, match="cannot be read"):
        read_lock(tmp_path / "none.lock")
    (tmp_path / "broken.lock").write_text("[wheels")
    with pytest.raises(StoreError, match="is no TOML"):
        read_lock(tmp_path / "broken.lock")


def test_an_unknown_model_names_the_nearest(root):
    """`models pull minlm` is answered with minilm."""
    with pytest.raises(StoreError, match=r"'minlm'.*minilm\?"):
        read_lock(root / "models.lock").select(["minlm"])


def test_pins_are_added_and_all_else_stays(tmp_path, root):
    """Comments too, whatever a licence or a path is called."""
    path = tmp_path / "models.lock"
    before = (root / "models.lock").read_text()
    path.write_text(before)
    files = {'a "b" \u00e4\U0001f600.onnx': PinnedFile(sha256=SHA, bytes=3)}
    for commit in ("a" * 40, "b" * 40):
        write_pins(
            path, f"acme/m@{commit}", PinnedRepository(licence="\U0001f600 \x7f \n", files=files)
        )
    assert path.read_text().startswith(before)
    found = read_lock(path).repositories
    assert list(found) == ["acme/m@" + "a" * 40, "acme/m@" + "b" * 40]
    assert found["acme/m@" + "a" * 40].files == files
    assert found["acme/m@" + "a" * 40].licence == "\U0001f600 \x7f \n"


def test_a_lock_is_made(tmp_path):
    """Where there is none."""
    files = {"model.onnx": PinnedFile(sha256=SHA, bytes=3)}
    write_pins(tmp_path / "models.lock", f"acme/m@{'a' * 40}", PinnedRepository(files=files))
    assert read_lock(tmp_path / "models.lock").models == {}
