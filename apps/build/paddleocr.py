"""PP-OCR's two models made to be called: pixels in; text's probability by pixel out of the one,
characters out of the other.

As shipped, the recogniser gives a probability for each of 18,710 characters at each step along a
line: 7.7 MB for a line of 800 pixels. All that its reader needs is which is the likeliest and how
likely, and that is what the model gives here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from apps.build.pixels import PIXELS, takes_pixels
from apps.textlines import HEIGHT
from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import run_unbatched

HALF: Final = 127.5
"""Taken off each pixel, and divided by."""


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Writes ``detect.onnx``, ``recognise.onnx``, ``alphabet.txt`` and a sample.

    ``detect.onnx``: ``pixels`` uint8 [rows, height, width, 3], multiples of 32, to ``text`` float32
    [rows, 1, height, width], 0 to 1. ``recognise.onnx``: ``pixels`` uint8 [rows, 48, width, 3] to
    ``characters`` int64 and ``certainties`` float32 [rows, width / 8]. ``alphabet.txt``: a
    character a line, in the order of the model's numbers; the first line, which is empty, is "no
    character".

    Raises:
        StoreError: a model does not answer as the one it was made from.
    """
    originals = [onnx.load(str(source / name)) for name in ("det.onnx", "rec.onnx")]
    detect, recognise = map(copy.deepcopy, originals)
    alphabet = _alphabet(recognise)
    for model in (detect, recognise):
        takes_pixels(
            model,
            mean=HALF,
            scale=HALF,
            bgr=True,
            height=HEIGHT if model is recognise else "height",
        )
    _rename_output(detect, "text")
    _give_the_likeliest(recognise)
    picture = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, 160, 3), np.uint8)
    far = max(
        _difference(originals[0], detect, picture[:, :32]),
        _difference(originals[1], recognise, picture),
    )
    if far > 1e-3:
        raise StoreError(
            f"the models are refused: they answer {far:.1e} away from those of the wheel."
        )
    say(f"{len(alphabet) - 1} characters; answers within {far:.1e} of the wheel's models")
    for name, model in (("detect.onnx", detect), ("recognise.onnx", recognise)):
        onnx.checker.check_model(model)
        onnx.save(model, str(out / name))
    (out / "alphabet.txt").write_text("\n".join(alphabet), encoding="utf-8")
    (out / "sample.png").write_bytes((source / "page.png").read_bytes())


def _alphabet(model: onnx.ModelProto) -> list[str]:
    """What each number of the recogniser's output stands for: nothing, the characters in its
    metadata, and a space.
    """
    characters = next(each.value for each in model.metadata_props if each.key == "character").split(
        "\n"
    )
    classes = model.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    if len(characters) + 2 != classes:
        raise StoreError(
            f"the recogniser tells {classes} characters apart, and its metadata names "
            f"{len(characters)} and no space."
        )
    return ["", *characters, " "]


def _rename_output(model: onnx.ModelProto, name: str) -> None:
    last = next(node for node in model.graph.node if model.graph.output[0].name in node.output)
    last.output[0] = name
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1, "height", "width"])
    )


def _give_the_likeliest(model: onnx.ModelProto) -> None:
    graph = model.graph
    probabilities = graph.output[0].name
    graph.node.append(
        helper.make_node("ArgMax", [probabilities], ["characters"], axis=2, keepdims=0)
    )
    graph.node.append(
        helper.make_node("ReduceMax", [probabilities], ["certainties"], axes=[2], keepdims=0)
    )
    del graph.output[:]
    for name, kind in (("characters", TensorProto.INT64), ("certainties", TensorProto.FLOAT)):
        graph.output.append(helper.make_tensor_value_info(name, kind, ["rows", "steps"]))
    del model.metadata_props[:]


def _difference(original: onnx.ModelProto, model: onnx.ModelProto, picture: np.ndarray) -> float:
    """The furthest that a number of the new model's answer is from the original's; a character
    otherwise read is 1.
    """
    numbers = ((picture[..., ::-1].astype(np.float32) - HALF) / HALF).transpose(0, 3, 1, 2)
    (wanted,) = run_unbatched(
        original, {original.graph.input[0].name: np.ascontiguousarray(numbers)}
    ).values()
    found = run_unbatched(model, {PIXELS: picture})
    if "text" in found:
        return float(np.abs(found["text"] - wanted).max())
    misread = float((found["characters"] != wanted.argmax(2)).any())
    return max(misread, float(np.abs(found["certainties"] - wanted.max(2)).max()))
