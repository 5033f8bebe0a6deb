"""What the benchmark of `ocr` computes from answers, and what it serves."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from loadtests.bench.company import company
from loadtests.bench.reading import Answered, declared, framework_share, rows_a_run
from runtime.check import check
from runtime.settings import Settings
from runtime.specfile import read


def answered(*counts: int, seconds: float = 1.0, model_s: float = 0.9) -> Answered:
    """A call whose lines were in runs of these sizes."""
    return Answered(seconds, model_s, counts, "")


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        ([answered(1, 1, 1)], 1),
        ([answered(2, 2, 1)], 1.5),
        ([answered(3, 1), answered(3, 3, 1)], 5 / 3),
        ([answered(4), answered(4), answered(4), answered(4)], 4),
    ],
)
def test_lines_over_runs(answers: list[Answered], rows: float) -> None:
    """Whoever a run's lines belong to, it is counted once."""
    assert rows_a_run(answers) == pytest.approx(rows)


def test_the_share_without_a_model() -> None:
    """Long calls count for more than short ones."""
    assert framework_share([answered(1), answered(1, seconds=3.0, model_s=2.3)]) == pytest.approx(0.2)


def test_a_stage_behind_a_model_knows_the_rows_of_its_run() -> None:
    """Each row the same number."""
    assert company([[1], [2], [3]]) == [3, 3, 3]


@pytest.mark.models
def test_ocr_is_measured_as_it_ships(root: Path, models: Path, tmp_path: Path) -> None:
    """Fused, with two stages more that tell; once for one worker, once for all, once for each."""
    shipped = next(function for function in read(root / "serve_config.yaml").functions if function.name == "ocr")
    file = tmp_path / "ocr.yaml"
    file.write_bytes(orjson.dumps(declared(shipped.to_args(), 2)))
    served = read(file)
    functions = {function.name: function for function in served.functions}
    assert list(functions) == ["single", "shared", "own0", "own1"]
    assert functions["single"].resources.num_cpus == 1
    assert [stage.stage for stage in functions["shared"].graph] == ["page", "detect", "find", "recognise", "company", "spell", "told"]
    assert functions["shared"].batching == shipped.batching
    assert check(served, Settings.read({"WAKEFUL_ROOT": str(root)})) == []
