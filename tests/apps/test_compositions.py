"""Several real models in one function: an ensemble, and a branch between two functions of the file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.declaration.config_file import read
from runtime.execution.function import Function
from runtime.graph.resolve import resolve
from runtime.settings import Settings

ROOT = Path(__file__).parent.parent.parent

ENSEMBLE = """
  - name: both
    route_prefix: /v2/models/both
    import_path: deployments:function
    args:
      graph:
        - {stage: tokenize, python: "apps.embed:Tokenize", with: {tokenizer: models/minilm/tokenizer.json}}
        - {stage: int8, onnx: models/minilm/model.int8.onnx, outputs: {sentence_embedding: small}}
        - {stage: fp32, onnx: models/minilm/model.fp32.onnx, outputs: {sentence_embedding: large}}
        - {stage: both, python: "tests.apps.compositions:both"}
"""

BRANCH = """
  - name: desk
    route_prefix: /v2/models/desk
    import_path: deployments:function
    args:
      graph:
        - {stage: moderate, function: moderate}
        - {stage: search, function: search, when: not is_profane}
        - {stage: reply, python: "tests.apps.compositions:reply"}
"""

pytestmark = [pytest.mark.models, pytest.mark.slow]


def answers(folder: Path, declared: str, rows: list[dict[str, Any]]) -> list[Any]:
    """By the last function of the shipped file with this one added to it, all rows in one call."""
    path = folder / "serve_config.yaml"
    path.write_text((ROOT / "serve_config.yaml").read_text() + declared)
    settings = Settings.read({"WAKEFUL_ROOT": str(ROOT)})

    async def main() -> list[Any]:
        function = await Function.load(resolve(read(path), settings).functions[-1], settings)
        try:
            return (await function.call_rows(rows))[0]
        finally:
            await function.close(10)

    return asyncio.run(main())


def test_two_models_of_one_text(models, tmp_path):
    """Both name their output alike, so each is given a name of its own; they agree as far as the
    int8 model is accepted.
    """
    for answer in answers(
        tmp_path,
        ENSEMBLE,
        [{"text": "A man is eating food."}, {"text": "Restock drinks in the depot before noon."}],
    ):
        assert 0.99 < answer["agreement"] < 1
        assert np.linalg.norm(answer["embedding"]) == pytest.approx(1, abs=1e-5)


def test_a_branch_asks_another_function_or_does_not(models, tmp_path):
    """Rows of both kinds in one call: a row that swears is answered so, and nothing is searched for it."""
    rude, polite = answers(
        tmp_path,
        BRANCH,
        [{"text": "Where is my fucking bike, you idiots"}, {"text": "Where do I leave my bike?"}],
    )
    assert rude == {"refused": True, "passages": []}
    assert not polite["refused"]
    assert polite["passages"][0].startswith("Bicycles are parked in the rack")
