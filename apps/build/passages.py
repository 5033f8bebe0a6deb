"""What `embed` makes of the passages that `search` finds: ``python -m apps.build.passages`` writes
``apps/data/passages.npy``.

Not part of a pull: the vectors are committed, so that `search` starts with them. A test compares
them with `embed` as it is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.settings import Settings

ROOT: Final = Path(__file__).parent.parent.parent
PASSAGES: Final = ROOT / "apps" / "data" / "passages.txt"
VECTORS: Final = PASSAGES.with_suffix(".npy")


async def embedded(texts: list[str]) -> NDArray[np.float16]:
    """Float16 [texts, 384], by the shipped function."""
    declared = read(ROOT / "serve_config.yaml").functions
    spec = FunctionSpec.of(next(spec for spec in declared if spec.name == "embed"))
    function = await Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(ROOT)}))
    try:
        answers = [(await function.call_row({"text": text}))[0]["embedding"] for text in texts]
    finally:
        await function.close(10)
    return np.stack(answers).astype(np.float16)


if __name__ == "__main__":
    np.save(VECTORS, asyncio.run(embedded(PASSAGES.read_text(encoding="utf-8").splitlines())))
