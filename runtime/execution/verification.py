"""Checks a function before it is ready: batching does not change a model's answers, and the first
answer can be given. The first client does not find it out.

``verify_batching`` runs one row alone, with others, and padded.

- *With others*: the row is first, in the middle and last in batches of rows with other values, and
  the answers of all rows are compared. A model that adds up along the first axis, or rounds by the
  whole batch, answers differently there, and is refused: ``rows: false`` makes each row a run of
  its own.
- *Padded*, where inputs are named in ``pad``: the row is padded to the length of a longer one, and
  runs together with it. A model that reads its padding is refused: it is right without ``pad``, or
  with a mask in the model.

The values are the example's, as the earlier stages give them. They are made up where there is no
example, and where the limits let no two rows like the example's share a run. A model that answers
the same row differently when it runs again is random; that proves nothing about its batch-mates.

``check_answer`` writes the answer to the declared example, or for a function of models alone, to
made-up values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, LoadError, RequestError
from runtime.execution.stages import ModelStage
from runtime.graph.request_fields import answer_mismatch
from runtime.onnx.prepared_model import VerifiedModels, verification_key
from runtime.onnx.providers import CPU
from runtime.onnx.session import dummy_inputs, varied_inputs
from runtime.protocol import InferRequest, InferResponse, dumps, encode_response, loads
from runtime.types.value_types import ValueType, is_mapping

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Outputs = Sequence[Array]

TOLERANCE: Final = 1e-4
"""How far a number may move, of the largest number of its output where that is above 1: sums of
unlike order differ by less.
"""

EXACT: Final = (CPU, "CUDAExecutionProvider")
INEXACT_TOLERANCE: Final = 1e-2
"""The same where a device may round float32 by itself, and differently for each number of rows;
CUDA is configured not to.
"""

BATCHES: Final = ((2, 0), (3, 1), (5, 4))
"""Sizes of batches and the position of the row in them: first, in the middle, last. Several sizes,
since an axis that is not the rows axis may have one of these lengths by chance.
"""

FREE: Final = (16, 32, 64)
"""Sizes of free dimensions for made-up rows; the first that the model takes is used. 32 is for
pictures, whose sides are halved.
"""

_VERSION: Final = 1
"""Raised when more is checked."""


def verify_batching(
    stage: ModelStage, row: Tensors | None, *, most: int, verified: VerifiedModels, of: Any
) -> None:
    """Checks a model, unless that was done before.

    Args:
        row: the example's inputs without the rows axis; None: they are made up.
        most: rows that may share a run.
        of: plain data that the row depends on.

    Raises:
        LoadError: an answer changes; says by how much, and what to declare.
    """
    if not stage.batchable or most < 2:
        return
    claim = verification_key(
        _VERSION, min(most, max(BATCHES)[0]), dict(stage.pad), stage.session.provider, of
    )
    if verified.holds(stage.session.path, claim):
        return
    if (problem := _find_problem(stage, row, most)) is not None:
        key, why = problem
        raise LoadError(f"stage {stage.name!r}, {key}: {why}")
    verified.record(stage.session.path, claim)


def _find_problem(stage: ModelStage, row: Tensors | None, most: int) -> tuple[str, str] | None:
    """The key that is wrong, and why; None where no answer changes."""
    rows = _dummy_rows(stage) if row is None else [row, *_mates(row)]
    if not rows:
        return None  # the first runs report what the model needs
    if why := _change_by_mates(stage, rows[0], rows[1:], most):
        return "rows", (
            f"{why}: answers depend on the other rows of a run. Declare `rows: false` for this "
            "model, and each row is a run of its own, its tensors as they are; or, if its first "
            "axis is one of rows all the same, `batching: {max_batch_size: 1}`."
        )
    if stage.pad and (why := _change_by_padding(stage, rows[0])):
        return (
            "pad",
            f"{why} Delete `pad`, and only rows of identical shapes share a run; or mask the "
            "padding in the model.",
        )
    return None


def _change_by_mates(stage: ModelStage, row: Tensors, mates: Sequence[Tensors], most: int) -> str:
    """How batch-mates change an answer, the row's or a mate's; empty where they change none, and
    where the model does not run on the row.
    """
    try:
        alone = [stage.try_run([one]) for one in (row, *mates)]
        for size, place in BATCHES if alone[0] else ():
            size = min(size, most)
            order = [1 + at % len(mates) for at in range(size - 1)]
            order.insert(min(place, size - 1), 0)
            found = stage.try_run([(row, *mates)[index] for index in order])
            if not found:  # the model may not take the mates' values
                order = [0] * size
                found = stage.try_run([row] * size)
            if not found:
                return f"a run of {size} rows fails, and of one of them by itself does not"
            for at, index in enumerate(order):
                by_itself = alone[index]
                why = (
                    _differs(stage, by_itself[0], found[at])
                    if by_itself
                    else "a row that fails by itself is answered"
                )
                if why and not _is_random(stage, row):
                    return f"{why} as number {at + 1} of {size} rows"
    except ValueError as error:  # the model returns another number of rows
        return str(error)
    return ""


def _change_by_padding(stage: ModelStage, row: Tensors) -> str:
    """How padding changes a row's answer; empty where it does not."""
    for short, long in _lengths(stage, row):
        alone, beside = stage.try_run([short]), stage.try_run([long])
        if not alone or not beside:
            continue
        trials = (
            (alone, stage.try_run([short], [long]), 0, "padded"),
            (alone, stage.try_run([short, long]), 0, "beside a longer row"),
            (alone, stage.try_run([long, short]), 1, "behind a longer row"),
            (beside, stage.try_run([long, short]), 0, "beside a shorter row"),
        )
        for by_itself, found, at, how in trials:
            why = _differs(stage, by_itself[0], found[at]) if found else "its run fails"
            if why and not _is_random(stage, short):
                sizes = ", ".join(
                    f"{name!r} {list(short[name].shape)} to {list(long[name].shape)}"
                    for name in stage.pad
                )
                return f"{why} {how} ({sizes})."
        return ""
    return "it runs on rows of no other length, so padding cannot be tried."


def _lengths(stage: ModelStage, row: Tensors) -> Iterator[tuple[Tensors, Tensors]]:
    """Pairs of a shorter and a longer row: some models take only multiples of a number, or rows no
    longer than the example.
    """
    yield row, _resized(stage, row, lambda size: 2 * size)
    yield row, _resized(stage, row, lambda size: size + 7)
    for resize in (lambda size: size // 2, lambda size: size - 1):
        short = _resized(stage, row, resize)
        if all(array.size for array in short.values()):
            yield short, row


def _resized(stage: ModelStage, row: Tensors, resize: Callable[[int], int]) -> Tensors:
    """The row with other sizes of the padded axes; its values are repeated."""
    resized = dict(row)
    for spec in stage.session.info.inputs:
        if spec.name in stage.pad:
            for axis, dim in enumerate(spec.shape[1:]):
                if dim == -1:
                    array = resized[spec.name]
                    resized[spec.name] = np.take(
                        array, np.arange(max(0, resize(array.shape[axis]))), axis, mode="wrap"
                    )
    return resized


def _dummy_rows(stage: ModelStage) -> list[Tensors]:
    """Rows on which the model runs, each with other values; none if it runs on no made-up row."""
    inputs = stage.session.info.inputs
    for free in FREE:
        for make in (varied_inputs, dummy_inputs):
            row = {name: array[0, ...] for name, array in make(inputs, 1, free).items()}
            if stage.session.can_run({name: array[None] for name, array in row.items()}):
                return [row, *_mates(_opposite(row))]
    return []


def _opposite(row: Tensors) -> Tensors:
    """Other made-up values: 1 for 0, and 0 for the rest."""
    return {
        name: np.array(array == 0, array.dtype) if array.dtype.kind in "iub" else array
        for name, array in row.items()
    }


def _mates(row: Tensors) -> list[Tensors]:
    """Rows of the same shapes with other values, if there are any. They are made of the row's own
    values, since not every number is a valid index.
    """
    random = np.random.default_rng(1)
    first, second = {}, {}
    for name, array in row.items():
        first[name], second[name] = (
            np.array(array[(slice(None, None, -1),) * array.ndim]),
            np.array(np.roll(array, 1), array.dtype),
        )
        if array.dtype.hasobject:
            first[name] = np.array([f"{text} {text}" for text in array.flat], object).reshape(
                array.shape
            )
            second[name] = np.array([str(text)[::2] for text in array.flat], object).reshape(
                array.shape
            )
        if array.dtype.kind == "f":
            first[name] += array.dtype.type(1)
            second[name] = np.array(random.standard_normal(array.shape), array.dtype)
    return [first, second]


def _is_random(stage: ModelStage, row: Tensors) -> bool:
    """Whether the model answers the same row differently each time."""
    first, second = stage.try_run([row]), stage.try_run([row])
    return bool(first and second and _differs(stage, first[0], second[0]))


def _differs(stage: ModelStage, alone: Outputs, found: Outputs) -> str:
    """How a row's outputs differ from those of the row by itself; empty where they do not."""
    tolerance = TOLERANCE if stage.session.provider in EXACT else INEXACT_TOLERANCE
    for spec, wanted, given in zip(stage.session.info.outputs, alone, found, strict=True):
        if why := difference(wanted, given, tolerance):
            return f"{spec.name!r} of a row is {why}"
    return ""


def difference(alone: Array, found: Array, tolerance: float = TOLERANCE) -> str:
    """How an output differs from that of the row by itself, in words; empty where it does not."""
    if alone.shape != found.shape:
        return f"{list(alone.shape)} by itself and {list(found.shape)}"
    if alone.dtype.kind != "f":
        return (
            ""
            if np.array_equal(alone, found)
            else _furthest(alone, found, np.asarray(alone != found))
        )
    wanted, given = alone.astype(np.float64), found.astype(np.float64)
    largest = float(np.max(np.abs(wanted), where=np.isfinite(wanted), initial=1.0))
    allowed = largest * max(tolerance, 4 * float(np.finfo(alone.dtype).eps))
    with np.errstate(invalid="ignore"):
        moved = ~(
            (np.abs(given - wanted) <= allowed)
            | (wanted == given)
            | (np.isnan(wanted) & np.isnan(given))
        )
    return _furthest(wanted, given, moved) if moved.any() else ""


def _furthest(alone: Array, found: Array, moved: NDArray[np.bool_]) -> str:
    """The two numbers that are furthest from each other, or the first that are unlike."""
    at = np.unravel_index(int(np.argmax(moved)), moved.shape)
    if alone.dtype.kind == "f":
        distance = np.where(
            moved & np.isfinite(alone) & np.isfinite(found), np.abs(found - alone), 0
        )
        at = np.unravel_index(int(np.argmax(distance)), distance.shape) if distance.any() else at
        return f"{alone[at]:.6g} by itself and {found[at]:.6g}"
    return f"{alone[at]} by itself and {found[at]}"


WHOLE: Final = InferRequest("", {}, (), False, {})
"""Asks for every output, as JSON."""


def check_answer(
    spec: FunctionSpec,
    types: Mapping[str, ValueType],
    answer: Mapping[str, Any],
    response: Callable[[], InferResponse] | None = None,
) -> None:
    """Writes an answer in every form that a client can ask for, and compares it with what the last
    stage declares.

    Args:
        types: of the answer's values, by name.
        answer: to the declared example, or to made-up values.
        response: makes the same as tensors; None: the function has no such answer.

    Raises:
        LoadError: naming the stage and the value.
    """
    what = (
        "the declared example fails"
        if spec.example is not None
        else "its first answer cannot be given"
    )
    stage = f"{what}: stage {spec.graph[-1].stage!r}"
    try:
        text = dumps(answer)
    except FunctionError as error:
        name = next((name for name, value in answer.items() if not _is_written(value)), "")
        raise LoadError(f"{stage}: {name!r}: {error.message}") from error
    read = loads(text)
    only = next(iter(types.values()))
    if len(types) == 1 and only.container == "object" and is_mapping(only.annotation):
        types, read = {"answer": only}, {"answer": read}
    annotations = {
        name: value.annotation
        for name, value in types.items()
        if value.container != "array" and not value.is_any
    }
    if why := answer_mismatch(
        {name: annotation for name, annotation in annotations.items() if name in read}, read
    ):
        raise LoadError(f"{stage} does not give what it declares: {why}.")
    if response is None:
        return
    for is_binary in (False, True):
        try:
            encode_response(response(), replace(WHOLE, binary_default=is_binary))
        except RequestError:  # the client can ask for another form
            continue
        except FunctionError as error:
            raise LoadError(f"{stage}: {error.message}") from error


def _is_written(value: Any) -> bool:
    try:
        dumps(value)
    except FunctionError:
        return False
    return True
