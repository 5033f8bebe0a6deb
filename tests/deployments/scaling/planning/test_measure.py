"""Functions of real stages and models, measured here."""

from __future__ import annotations

import pytest
import yaml

from deployments.scaling.planning.measure import measure
from deployments.scaling.planning.spreads import SHARES
from runtime.declaration import config_file
from runtime.errors import RequestError
from runtime.graph.resolve import resolve
from runtime.settings import Settings
from tests import onnx_models
from tests.problems import expect_values

pytestmark = [pytest.mark.slow, pytest.mark.full]

STAGES = """
from collections.abc import Iterator

from wakeful import State


def count(seen: State[int], text: str) -> dict:
    return {"calls": (seen or 0) + 1, "seen": (seen or 0) + 1}


def letters(text: str) -> Iterator[str]:
    yield from text


def fails(text: str) -> str:
    if " " in text:
        raise ValueError("no longer texts")
    return text
"""

FUNCTIONS = {
    "mean": {
        "graph": [{"stage": "model", "onnx": "mean.onnx", "pad": {"x": 0.0, "mask": 0.0}}],
        "batching": {"max_batch_size": 4},
        "example": {"x": [1.0, 2.0], "mask": [1.0, 1.0]},
    },
    "double": {"onnx": "double.onnx", "example": {"x": [1.0, 2.0, 3.0]}},
    "letters": {
        "graph": [{"stage": "letter", "python": "measured_stages:letters"}],
        "example": {"text": "ab"},
    },
    "silent": {"onnx": "double.onnx"},
}


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """What is measured of some functions, in some seconds each, also of a busy machine."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "measured_stages.py").write_text(STAGES)
    onnx_models.double(folder / "double.onnx")
    onnx_models.masked_mean(folder / "mean.onnx")
    applications = [
        {
            "name": name,
            "route_prefix": f"/v2/models/{name}",
            "import_path": "deployments:function",
            "args": args,
        }
        for name, args in FUNCTIONS.items()
    ]
    file = folder / "serve_config.yaml"
    file.write_text(yaml.safe_dump({"applications": applications}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        settings = Settings.read(file=file)
        config = resolve(config_file.read(file), settings)
        with pytest.raises(RequestError) as refused:
            list(measure(config, settings, ["mean", "silent"]))
        expect_values(refused.value, "'silent'", "`example`")
        assert refused.value.where == "silent.example"
        names = ["mean", "double", "letters"]
        return dict(measure(config, settings, names, seconds=2.0))


def test_batches_are_measured_by_rows_and_length(profiles):
    """Of rows that may be padded: longer ones, made of the example."""
    one = profiles["mean"]
    assert one.shares_runs
    assert {batch.length for batch in one.batches} == {2, 4, 8, 16, 32}
    assert {batch.rows for batch in one.batches} == {1, 2, 4}
    assert all(batch.seconds > 0 and batch.runs for batch in one.batches)
    assert one.length_of(one.batches[0].body_bytes) == 2


def test_rows_of_one_size_have_one_length(profiles):
    """And that is said."""
    one = profiles["double"]
    assert one.shares_runs
    assert {batch.length for batch in one.batches} == {0}
    assert {batch.rows for batch in one.batches} == {1, 2, 4, 8, 16, 32}
    assert any("one size" in note for note in one.notes)


def test_a_stream_is_measured_to_its_end(profiles):
    """Its rows share no run."""
    one = profiles["letters"]
    assert not one.shares_runs
    assert one.batches[0].rows == 1


def test_wake_memory_and_http_are_measured(profiles):
    """Each of every function."""
    for one in profiles.values():
        assert {"read", "session", "stages", "first", "total"} <= set(one.wake_s)
        assert one.wake_s["total"] > 0
        assert one.call_s > 0
        assert one.served > 0
        assert one.idle_extra_s[0][1] == 0
        assert list(one.idle_extra_s) == sorted(one.idle_extra_s)
        assert one.crowded >= 1
        assert list(one.beside_s) == sorted(one.beside_s)
        assert max(one.beside_s) > one.beside_cpu_s > 0
        for batch in one.batches:
            assert 1 <= len(batch.spread) <= SHARES
    assert profiles["double"].device == "cpu"
