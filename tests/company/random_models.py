"""The check that batching moves no answer, against random models.

    python -m tests.company.random_models [--models 2000] [--seed 0]

prints how many models were served though company moves their answers, and how many were refused
though nothing was seen to move: by the check's own numbers, or by ``Judge`` in ten times as many
companies. A model in training mode counts for neither where nothing moves: its answers depend on
the calls before, whatever a company shows, and it is refused for that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import LoadError
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.verification.batching_check import verify_batching
from runtime.onnx.prepared_model import VerifiedModels
from runtime.onnx.providers import CPU_PLAN
from runtime.onnx.session import Session
from tests.company.judge import COMPANIES, Judge
from tests.company.made import MadeModel, make

MOST = 32
EVERY = 100
"""Models after which the tally is printed."""


@dataclass(slots=True)
class Tally:
    """What came of some models.

    Attributes:
        moving: models whose answers company moves.
        still: models of which nothing was seen to move.
        trained: models in training mode, of which nothing was seen to move.
        served: of those that move, the ones that the check let through.
        refused: of those that do not, the ones that it did not.
    """

    moving: int = 0
    still: int = 0
    trained: int = 0
    served: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    check_s: float = 0.0

    def __str__(self) -> str:
        return "\n".join(
            [
                *(f"served and moves: {line}" for line in self.served),
                *(f"refused and holds: {line}" for line in self.refused),
                f"{self.moving} move, {len(self.served)} of them served; {self.still} do not,"
                f" {len(self.refused)} of them refused"
                f" ({100 * len(self.refused) / max(1, self.still):.1f} %);"
                f" {self.trained} in training mode;"
                f" {1000 * self.check_s / max(1, self.moving + self.still):.1f} ms a check",
            ]
        )


def examine(seeds: range, tally: Tally | None = None) -> Tally:
    """Checks and judges the models of some seeds; adds what came of them to the tally."""
    tally = tally or Tally()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            made = make(seed)
            path = Path(folder) / f"{seed}.onnx"
            path.write_bytes(made.model)
            _examine(made, seed, path, tally)
            path.unlink()
    return tally


def _examine(made: MadeModel, seed: int, path: Path, tally: Tally) -> None:
    try:
        judge = Judge(made, seed)
    except Exception:  # ONNX Runtime does not take it, and its classes have no common base
        return
    began = time.perf_counter()
    refusal = refusal_of(made, path)
    tally.check_s += time.perf_counter() - began
    line = f"{seed} {' '.join(made.steps)}{' pad' if made.pad else ''}{'' if made.example is None else ' example'}"
    if moved := judge.find_movement():
        tally.moving += 1
        if not refusal:
            tally.served.append(f"{line}: {moved}")
    elif refusal and ("by itself and" in refusal or judge.find_movement(10 * COMPANIES)):
        tally.moving += 1  # shown in numbers, or found when looked at longer
    elif "trained" in made.steps:
        tally.trained += 1
        if not refusal:
            tally.served.append(f"{line}: in training mode")
    else:
        tally.still += 1
        if refusal:
            tally.refused.append(f"{line}: {refusal}")


def refusal_of(made: MadeModel, path: Path) -> str:
    """What the check says of a model; empty: it is served."""
    session = Session(path, CPU_PLAN)
    stage = ModelStage(
        "m",
        session,
        {spec.name: spec.name for spec in session.info.inputs},
        batchable=session.info.batchable,
        pad=made.pad,
        outputs={},
    )
    verified = VerifiedModels(path.parent / "verified")
    try:
        verify_batching(stage, made.example, most=MOST, verified=verified, of=None)
    except LoadError as error:
        return error.message
    return ""


def main() -> None:
    """Looks at so many models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    args = parser.parse_args()
    tally = Tally()
    end = args.seed + args.models
    for start in range(args.seed, end, EVERY):
        examine(range(start, min(end, start + EVERY)), tally)
        print(f"up to seed {min(end, start + EVERY) - 1}:\n{tally}", flush=True)


if __name__ == "__main__":
    main()
