"""Magika's model with a first axis that says it is the files, so that files of many callers share a
run; nothing else is changed.

The packaged model names the first axis of its input and of its output differently, as if they had
nothing to do with each other.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from apps.filetype import PADDING, PART, look
from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import run_unbatched

CLOSE: Final = 1e-4


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Writes ``model.onnx`` (``bytes`` int32 [files, 2048] to ``target_label`` float32 [files,
    214]), ``config.json`` and ``types.json``.

    Raises:
        StoreError: an answer depends on the other files.
    """
    model = onnx.load(str(source / "model.onnx"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "files"
    files = [path.read_bytes() for path in sorted(source.iterdir())]
    ends = np.stack([*(look(file)["ends"] for file in files), np.full(2 * PART, PADDING, np.int32)])
    together = run_unbatched(model, {"bytes": ends})["target_label"]
    alone = np.concatenate(
        [run_unbatched(model, {"bytes": row[None]})["target_label"] for row in ends]
    )
    difference = float(np.abs(together - alone).max())
    verdict = f"other files move a score by {difference:.1e} at most"
    if difference > CLOSE:
        raise StoreError(
            f"filetype: {verdict}; at most {CLOSE:g} is allowed. Use the ONNX Runtime of "
            "requirements.lock."
        )
    say(verdict)
    onnx.save(model, str(out / "model.onnx"))
    for name in ("config.json", "types.json"):
        shutil.copyfile(source / name, out / name)
