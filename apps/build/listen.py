"""Silero's speech detector written for batches: every hop of a piece of sound in one run,
pieces of many callers next to each other.

The packaged models take one hop a run, or all hops of one stream, and have the streams on the
second axis of the state. The weights are theirs and the arithmetic is the same. What differs:

- All inputs have the streams on their first axis. Pieces may be of unlike length: the recurrent
  layer stops at each one's last hop.
- Convolutions are matrix products over all hops at once, which is what makes it fast on one core.
- The packaged model reflects the sound at the end of each hop. That is linear, so it is folded into
  the weights of a hop's last window.

``build`` compares it with the packaged model on a sample of speech, and refuses it if a probability
differs by more than ``CLOSE``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from apps.listen import CELLS, CONTEXT, HOP
from apps.sound import samples_of
from runtime.errors import StoreError
from runtime.onnx.quantization.acceptance import run_unbatched
from runtime.onnx.quantization.graph_writer import GraphWriter

CLOSE: Final = 1e-5
WINDOW: Final = 256
STEP: Final = 128
WINDOWS: Final = HOP // STEP
BINS: Final = WINDOW // 2 + 1
REFLECTED: Final = 64
"""Samples by which the last window of a hop reaches beyond its end."""

Weights = Mapping[str, NDArray[np.float32]]


def build(source: Path, out: Path, say: Callable[[str], None]) -> None:
    """Writes ``model.onnx`` and ``sample.wav`` into ``out``.

    Args:
        source: folder with ``sequence.onnx``, Silero's model of whole clips at 16 kHz, and
            ``speech.wav``.

    Raises:
        StoreError: the model's answers are not those of the packaged one.
    """
    packaged = onnx.load(str(source / "sequence.onnx"))
    model = detector(
        {each.name: numpy_helper.to_array(each) for each in packaged.graph.initializer}
    )
    sound = (source / "speech.wav").read_bytes()
    say(_accept(model, packaged, samples_of(sound)))
    onnx.save(model, str(out / "model.onnx"))
    (out / "sample.wav").write_bytes(sound)


def detector(weights: Weights) -> onnx.ModelProto:
    """Speech probabilities of pieces of sound, each going on from the memory of the one before.

    Inputs ``samples`` float32 [pieces, 64 + 512 x hops] (the last 64 of before first), ``hops``
    int64 [pieces] (how many are sound and not padding), ``memory`` float32 [pieces, 2, 128].
    Outputs ``speech`` float32 [pieces, hops] (past a piece's last hop it means nothing), and
    ``memory_after`` float32 [pieces, 2, 128].
    """
    write = GraphWriter()
    heard = write.node(
        "Reshape",
        _spectrum(write, weights["stft.forward_basis_buffer"][:, 0]),
        write.ints(0, 0, WINDOWS * BINS),
    )
    for index, (positions, stride) in enumerate(((4, 1), (4, 2), (2, 2), (1, 1))):
        matrix, bias = dense(
            weights[f"encoder.{index}.weight"], weights[f"encoder.{index}.bias"], positions, stride
        )
        heard = write.node("Relu", _product(write, f"encoder.{index}", heard, matrix, bias))
    _recur(write, weights, heard)
    graph = helper.make_graph(
        write.nodes,
        "listen",
        [
            helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["pieces", "length"]),
            helper.make_tensor_value_info("hops", TensorProto.INT64, ["pieces"]),
            helper.make_tensor_value_info("memory", TensorProto.FLOAT, ["pieces", 2, CELLS]),
        ],
        [
            helper.make_tensor_value_info("speech", TensorProto.FLOAT, ["pieces", "most_hops"]),
            helper.make_tensor_value_info("memory_after", TensorProto.FLOAT, ["pieces", 2, CELLS]),
        ],
        list(write.constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def dense(
    weight: NDArray[np.float32], bias: NDArray[np.float32], positions: int, stride: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """A convolution over so few positions as one matrix, which saves gathering each position's
    neighbours.

    Args:
        weight: float32 [out, in, 3], of a convolution padded by 1.
        positions: that it reads.

    Returns:
        float32 [positions x in, positions / stride x out] and [positions / stride x out].
    """
    size_out, size_in, taps = weight.shape
    outputs = -(-positions // stride)
    matrix = np.zeros((positions, size_in, outputs, size_out), np.float32)
    for output in range(outputs):
        for tap in range(taps):
            position = output * stride + tap - 1
            if 0 <= position < positions:
                matrix[position, :, output] = weight[:, :, tap].T
    return matrix.reshape(positions * size_in, outputs * size_out), np.tile(bias, outputs)


def folded(basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """The basis [258, 256] for a window whose last 64 samples are those before them, mirrored:
    nothing is read beyond the hop's end.
    """
    end = WINDOW - REFLECTED
    inner = basis.copy()
    inner[:, end:] = 0
    inner[:, end - 1 - REFLECTED : end - 1] += basis[:, end:][:, ::-1]
    return inner


def _spectrum(write: GraphWriter, basis: NDArray[np.float32]) -> str:
    """Magnitudes float32 [pieces, hops, 4, 129] of each hop's windows of 256 samples, 128 apart."""
    padding = write.constant("padding", [0, 0, 0, STEP - CONTEXT], np.int64)
    # [pieces, 4 x hops + 1, 128]
    blocks = write.node("Reshape", write.node("Pad", "samples", padding), write.ints(0, -1, STEP))
    left = write.node("Slice", blocks, write.ints(0), write.ints(-1), write.ints(1))
    right = write.node("Slice", blocks, write.ints(1), write.ints(1 << 40), write.ints(1))
    windows = write.node(
        "Reshape", write.node("Concat", left, right, axis=2), write.ints(0, -1, WINDOWS, WINDOW)
    )
    parts = []
    for name, begin, end, matrix in (
        ("inner", 0, WINDOWS - 1, basis),
        ("last", WINDOWS - 1, WINDOWS, folded(basis)),
    ):
        some = write.node("Slice", windows, write.ints(begin), write.ints(end), write.ints(2))
        parts.append(write.node("MatMul", some, write.constant(f"basis.{name}", matrix.T)))
    waves = write.node("Concat", *parts, axis=2)
    squares = write.node("Mul", waves, waves)
    real = write.node("Slice", squares, write.ints(0), write.ints(BINS), write.ints(3))
    imaginary = write.node("Slice", squares, write.ints(BINS), write.ints(2 * BINS), write.ints(3))
    return write.node("Sqrt", write.node("Add", real, imaginary))


def _recur(write: GraphWriter, weights: Weights, heard: str) -> None:
    """The recurrent layer and what it makes of each hop: from float32 [pieces, hops, 128] to both
    outputs.
    """
    lengths = write.node("Cast", "hops", to=TensorProto.INT32)
    memory = write.node("Transpose", "memory", perm=[1, 0, 2])
    hidden = write.node("Slice", memory, write.ints(0), write.ints(1), write.ints(0))
    cell = write.node("Slice", memory, write.ints(1), write.ints(2), write.ints(0))
    constants = [
        write.constant(name, weights[name])
        for name in ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
    ]
    inputs = [write.node("Transpose", heard, perm=[1, 0, 2]), *constants, lengths, hidden, cell]
    write.nodes.append(
        helper.make_node(
            "LSTM", inputs, ["recurrent", "hidden", "cell"], name="LSTM", hidden_size=CELLS
        )
    )
    states = write.node("Relu", write.node("Squeeze", "recurrent", write.ints(1)))
    speech = write.node(
        "Sigmoid",
        _product(
            write, "output", states, weights["output.weight"][:, :, 0].T, weights["output.bias"]
        ),
    )
    write.node(
        "Transpose", write.node("Squeeze", speech, write.ints(2)), output="speech", perm=[1, 0]
    )
    after = write.node("Transpose", write.node("Concat", "hidden", "cell", axis=0), perm=[1, 0, 2])
    is_sound = write.node(
        "Unsqueeze",
        write.node("Greater", "hops", write.constant("none", 0, np.int64)),
        write.ints(1, 2),
    )
    # ONNX Runtime forgets where a piece has no hop
    write.node("Where", is_sound, after, "memory", output="memory_after")


def _product(
    write: GraphWriter, name: str, value: str, matrix: NDArray[Any], bias: NDArray[Any]
) -> str:
    product = write.node("MatMul", value, write.constant(f"{name}.weight", matrix))
    return write.node("Add", product, write.constant(f"{name}.bias", bias))


def _accept(model: onnx.ModelProto, packaged: onnx.ModelProto, sound: NDArray[np.float32]) -> str:
    """Compares the probabilities of a whole clip with the packaged model's, and those of its pieces
    in one batch with the whole clip's.

    Raises:
        StoreError: they differ by more than ``CLOSE``.
    """
    hops = len(sound) // HOP
    heard = np.concatenate([np.zeros(CONTEXT, np.float32), sound[: hops * HOP]])
    frames = np.lib.stride_tricks.sliding_window_view(heard, CONTEXT + HOP)[::HOP]
    silent = np.zeros((1, 1, CELLS), np.float32)
    expected = run_unbatched(packaged, {"input": frames, "h": silent, "c": silent})["speech_probs"]
    start = np.zeros((1, 2, CELLS), np.float32)
    whole = run_unbatched(
        model, {"samples": heard[None], "hops": np.array([hops]), "memory": start}
    )["speech"][0]
    short = hops // 3
    batch = np.zeros((2, len(heard)), np.float32)
    batch[0], batch[1, : CONTEXT + short * HOP] = heard, heard[: CONTEXT + short * HOP]
    together = run_unbatched(
        model, {"samples": batch, "hops": np.array([hops, short]), "memory": np.repeat(start, 2, 0)}
    )["speech"]
    differences = [
        float(np.abs(ours - theirs).max())
        for ours, theirs in (
            (whole, expected),
            (together[0], whole),
            (together[1, :short], whole[:short]),
        )
    ]
    verdict = (
        f"{hops} hops of speech: {differences[0]:.1e} from the packaged model at most, "
        f"{max(differences[1:]):.1e} by company"
    )
    if max(differences) > CLOSE:
        raise StoreError(
            f"listen: {verdict}; at most {CLOSE:g} is allowed. Correct apps/build/listen.py, "
            "or pull what the lock names."
        )
    return verdict
