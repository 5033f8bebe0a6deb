"""Cases of the ``onnx`` package: a model, what goes in, what has to come out. Those that bare ONNX
Runtime passes are ours to pass.

The shipped ones are files of the wheel: 17 simple graphs, 83 made from PyTorch, and nine well-known
architectures with constant weights (*light*). The others, one or a few an operator, are generated
by the package. Only tensors are taken: sequences, optionals and types that the Open Inference
Protocol has no name for are left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]

DATA: Final = Path(onnx.__file__).parent / "backend" / "test" / "data"

FOLDERS: Final = ("simple", "pytorch-converted", "pytorch-operator")

PLAIN: Final = frozenset(range(1, 14)) - {onnx.TensorProto.UNDEFINED}
"""Element types that the protocol has: floats of 16, 32 and 64 bits, integers, text, booleans."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model and its data.

    Attributes:
        model: serialised.
        inputs: arrays by name, for each set.
        outputs: what comes out, in the model's order; empty where bare ONNX Runtime says it.
    """

    name: str
    model: bytes = field(repr=False)
    inputs: tuple[dict[str, Array], ...] = field(repr=False)
    outputs: tuple[list[Array], ...] = field(repr=False)
    rtol: float = 1e-3
    atol: float = 1e-5

    def bare(self) -> list[list[Array]] | None:
        """What bare ONNX Runtime answers to each set, one thread; None if it refuses the case or
        fails it.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            session = ort.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
            given = [session.run(None, inputs) for inputs in self.inputs]
            for found, wanted in zip(given, self.outputs, strict=True):
                self.compare(found, wanted)
        except Exception:  # a class of its own for each status, or an assertion: not ours to pass
            return None
        return given

    def compare(self, found: list[Array], wanted: list[Array]) -> None:
        """As onnx's own runner does.

        Raises:
            AssertionError: they differ.
        """
        assert len(found) >= len(wanted)
        for mine, theirs in zip(map(_texts, found), map(_texts, wanted), strict=False):
            if theirs.dtype.kind in "fc":
                np.testing.assert_allclose(mine, theirs, rtol=self.rtol, atol=self.atol)
            else:
                np.testing.assert_array_equal(mine, theirs)

    @staticmethod
    def agree(found: list[Array], bare: list[Array]) -> None:
        """Ours are bare ONNX Runtime's, shape and datatype included; floats but for their last
        bits, since what is added up in which order depends on where an array begins in memory.

        Raises:
            AssertionError: they are not.
        """
        assert [one.shape for one in found] == [one.shape for one in bare]
        for mine, theirs in zip(map(_texts, found), map(_texts, bare), strict=True):
            assert mine.dtype == theirs.dtype
            if theirs.dtype.kind == "f":
                np.testing.assert_allclose(
                    mine, theirs, rtol=16 * np.finfo(theirs.dtype).eps, atol=1e-6
                )
            else:
                np.testing.assert_array_equal(mine, theirs)


def shipped() -> Iterator[Case]:
    """The 100 cases that come as files."""
    for folder in FOLDERS:
        for path in sorted(path for path in (DATA / folder).iterdir() if path.is_dir()):
            model = onnx.load(path / "model.onnx")
            if not _is_plain(model):
                continue
            names = [value.name for value in _fed(model)]
            sets = sorted(path.glob("test_data_set_*"))
            inputs = tuple(
                {name: _tensor(one / f"input_{index}.pb") for index, name in enumerate(names)}
                for one in sets
            )
            outputs = tuple(
                [_tensor(one / f"output_{index}.pb") for index in range(len(model.graph.output))]
                for one in sets
            )
            yield Case(f"{folder}-{path.name}", model.SerializeToString(), inputs, outputs)


def light() -> Iterator[Case]:
    """The nine architectures; they take ``arange(n) / n``."""
    for path in sorted((DATA / "light").glob("*.onnx")):
        model = onnx.load(path)
        (value,) = _fed(model)
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        count = int(np.prod(shape))
        inputs = {value.name: (np.arange(count) / count).reshape(shape).astype(np.float32)}
        yield Case(
            path.stem,
            model.SerializeToString(),
            (inputs,),
            ([_tensor(path.with_name(f"{path.stem}_output_0.pb"))],),
        )


def generated() -> Iterator[Case]:
    """One or a few an operator; about 1,600."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, of the operators' own reference code
        found = collect_testcases(None)
    for case in found:
        if case.model is None or not _is_plain(case.model):
            continue
        names = [value.name for value in case.model.graph.input]
        sets = [
            (dict(zip(names, map(_array, given), strict=False)), [_array(one) for one in wanted])
            for given, wanted in case.data_sets
        ]
        inputs, outputs = zip(*sets, strict=True)
        yield Case(
            case.name,
            case.model.SerializeToString(),
            inputs,
            outputs,
            case.rtol,
            max(case.atol, 1e-5),
        )


def of_each_operator() -> Iterator[Case]:
    """Of those the first of each operator, or of each set of them, that bare ONNX Runtime passes."""
    seen: set[frozenset[str]] = set()
    for case in generated():
        operators = frozenset(node.op_type for node in onnx.load_from_string(case.model).graph.node)
        if operators not in seen and case.bare() is not None:
            seen.add(operators)
            yield case


def _fed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    constant = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constant]


def _is_plain(model: onnx.ModelProto) -> bool:
    return all(
        value.type.WhichOneof("value") == "tensor_type"
        and value.type.tensor_type.elem_type in PLAIN
        for value in [*model.graph.input, *model.graph.output]
    )


def _tensor(path: Path) -> Array:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def _texts(array: Array) -> Array:
    """Text as ``str`` objects, whatever read it."""
    if array.dtype.kind not in "OSU":
        return array
    found = np.empty(array.size, object)
    found[:] = [
        each.decode() if isinstance(each, bytes) else str(each)
        for each in array.reshape(-1).tolist()
    ]
    return found.reshape(array.shape)


def _array(value: Any) -> Array:
    return (
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    )
