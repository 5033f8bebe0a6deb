"""The shipped functions through the engine: an answer does not depend on its batch-mates, and is what
the declaration promises.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.declaration.config_file import read
from runtime.execution.function import Function
from runtime.graph.resolve import resolve
from runtime.onnx.quantization.acceptance import TEXTS as TEXTS_FILE
from runtime.settings import Settings

ROOT = Path(__file__).parent.parent.parent
TEXTS = TEXTS_FILE.read_text(encoding="utf-8").splitlines()

pytestmark = pytest.mark.models


def answers(name: str, groups: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Each group's answers, its rows computed in one call, by the shipped function of that name."""

    async def main() -> list[list[dict[str, Any]]]:
        settings = Settings.read({"WAKEFUL_ROOT": str(ROOT)})
        spec = next(
            spec
            for spec in resolve(read(ROOT / "serve_config.yaml"), settings).functions
            if spec.name == name
        )
        # on a busy machine the pages of `ocr` take longer than a caller would wait
        limits = spec.limits.model_copy(update={"request_timeout_s": 600.0})
        function = await Function.load(spec.model_copy(update={"limits": limits}), settings)
        try:
            return [(await function.call_rows(rows))[0] for rows in groups]
        finally:
            await function.close(10)

    return asyncio.run(main())


def test_an_embedding_does_not_depend_on_its_batch_mates(models):
    """Every committed text alone and all of them together, long next to short: no number moves by
    more than 1e-4.
    """
    rows = [{"text": text} for text in TEXTS]
    together, *alone = answers("embed", [rows, *([row] for row in rows)])
    for mixed, (single,) in zip(together, alone, strict=True):
        np.testing.assert_allclose(mixed["embedding"], single["embedding"], atol=1e-4)
        assert np.linalg.norm(single["embedding"]) == pytest.approx(1.0, abs=1e-3)


def test_a_forecast_does_not_depend_on_its_batch_mates(models):
    """Items of very different volume, alone and together: the same plans."""
    rows = [
        {
            "daily_sales": [volume * (1 + day % 7) for day in range(35)],
            "stock_on_hand": 3 * volume,
            "lead_time_days": 1 + volume % 14,
        }
        for volume in (1, 3, 10, 250, 4000)
    ]
    together, *alone = answers("forecast", [rows, *([row] for row in rows)])
    for mixed, (single,) in zip(together, alone, strict=True):
        assert mixed["daily_demand"] == pytest.approx(single["daily_demand"], rel=1e-4)
        assert abs(mixed["reorder_quantity"] - single["reorder_quantity"]) <= 1


def test_a_score_does_not_depend_on_its_batch_mates(models):
    """Long texts next to short and empty ones: the same scores."""
    rows = [{"text": text} for text in [*TEXTS[:20], "", "go to hell, you scum"]]
    together, *alone = answers("moderate", [rows, *([row] for row in rows)])
    assert [row["score"] for row in together] == pytest.approx(
        [row["score"] for (row,) in alone], abs=1e-4
    )


def test_a_kind_of_file_does_not_depend_on_its_batch_mates(models):
    """Files of several kinds, some of which the model does not run for: each by itself."""
    files = [
        (ROOT / name).read_bytes()
        for name in ("README.md", "Makefile", "apps/search.py", "models/listen/sample.wav")
    ]
    rows = [{"content": content} for content in [*files, b"", b"\xff\xfe"]]
    together, *alone = answers("filetype", [rows, *([row] for row in rows)])
    assert [row["label"] for row in together] == [
        "markdown",
        "makefile",
        "python",
        "wav",
        "empty",
        "unknown",
    ]
    for mixed, (single,) in zip(together, alone, strict=True):
        assert mixed == {**single, "score": pytest.approx(single["score"], abs=1e-4)}


def test_what_is_found_does_not_depend_on_its_batch_mates(models):
    """Questions of several lengths: the same passages, each with its cosine."""
    rows = [
        {"text": "When is payday?"},
        {"text": "Money back?", "top": 1},
        {"text": "What do I do, and where do I go, if there is smoke in the building?"},
    ]
    together, *alone = answers("search", [rows, *([row] for row in rows)])
    assert [row["results"][0]["passage"].split()[0] for row in together] == [
        "Salaries",
        "Money",
        "In",
    ]
    assert [len(row["results"]) for row in together] == [3, 1, 3]
    for mixed, (single,) in zip(together, alone, strict=True):
        for ours, theirs in zip(mixed["results"], single["results"], strict=True):
            assert ours == {**theirs, "cosine": pytest.approx(theirs["cosine"], abs=1e-4)}
