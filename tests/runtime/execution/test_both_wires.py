"""A function means the same over JSON and over the Open Inference Protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, RequestError, WakefulError, WrongDatatype, WrongShape
from runtime.execution.function import Function
from runtime.graph.assembly import assemble
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import link_callees
from runtime.protocol.json_text import dumps, loads
from runtime.protocol.messages import InferRequest, check_inputs
from runtime.settings import Settings
from runtime.types.annotations import Shape
from tests.inference import infer

HERE = __name__


def positive(array: NDArray[Any]) -> NDArray[Any]:
    if (array < 0).any():
        raise ValueError("negative")
    return array


FP32 = NDArray[np.float32]
Positive = Annotated[FP32, Shape(-1), AfterValidator(positive)]
Short = Annotated[FP32, Shape(-1), Field(max_length=3)]
Pairs = Annotated[FP32, Shape(-1, 2)]


def of_positive(x: Positive) -> float:
    return float(x.sum())


def of_positive_or_none(x: Positive | None = None) -> float:
    return 0.0 if x is None else float(x.sum())


def of_inner(x: Annotated[FP32 | None, AfterValidator(positive)] = None) -> float:
    return of_positive_or_none(x)


def of_short(x: Short) -> float:
    return float(x.sum())


def of_two(x: Positive, y: FP32) -> float:
    return float(x.sum() + y.sum())


def of_any(x: np.ndarray[Any, Any]) -> str:
    return f"{x.dtype} {x.tolist()}"


def of_floats(x: NDArray[np.floating[Any]]) -> str:
    return f"{x.dtype} {x.tolist()}"


def of_whole(x: NDArray[np.integer[Any]]) -> str:
    return f"{x.dtype} {x.tolist()}"


def of_texts(x: NDArray[np.character]) -> str:
    return f"{x.dtype} {x.tolist()}"


def of_pairs(x: Pairs) -> list[int]:
    return list(x.shape)


def of_any_rank(x: FP32) -> list[int]:
    return list(x.shape)


NUMBERS = {
    "small": 5,
    "most": 2**63 - 1,
    "above": 2**63,
    "unsigned": 2**64 - 1,
    "least": -1,
    "numpy": np.uint64(2**63),
}


def number(of: str) -> int:
    return NUMBERS[of]


def numbers(of: str) -> list[int]:
    return [NUMBERS[of], 1]


def bytes_of(of: str) -> list[np.int8]:
    return [np.int8(1), {"fits": np.uint8(5), "wraps": np.uint8(200), "big": 300}[of]]  # type: ignore[list-item]


def half(of: str) -> np.float16:
    return {"fits": 1.5, "above": 70000.0}[of]  # type: ignore[return-value]


def untyped(of: str) -> np.ndarray[Any, Any]:
    return np.array([1]) if of == "int" else np.array(["a"])


class Scores(TypedDict):
    scores: dict[str, float]


def scores(text: str) -> Scores:
    return {"scores": {"a": 0.5}}


class Extra(TypedDict):
    extra: NotRequired[dict[str, float]]


def extra(text: str) -> Extra:
    return {"extra": {"a": 0.5}} if text else {}


def plain(text: str) -> dict[str, float]:
    return {"a": 0.5}


def with_function(
    root: Path, names: list[str], work: Callable[[Function], Awaitable[Any]], **args: Any
) -> Any:
    """The first of these is a stage; each further one calls the function before it."""
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})

    async def main() -> Any:
        function = await Function.load(linked(root, names, **args), settings)
        try:
            return await work(function)
        finally:
            await function.close(5)

    return asyncio.run(main())


def linked(root: Path, names: list[str], **args: Any) -> FunctionSpec:
    graphs: list[dict[str, Any]] = [{"stage": "s", "python": f"{HERE}:{names[0]}"}]
    graphs += [{"stage": "s", "function": f"f{index}"} for index in range(len(names) - 1)]
    declared = [
        FunctionSpec.from_args(f"f{index}", f"/v2/models/f{index}", {"graph": [graph], **args})
        for index, graph in enumerate(graphs)
    ]
    found, faults = link_callees(declared, Settings.read({"WAKEFUL_ROOT": str(root)}))
    assert faults == []
    return found[-1]


async def both(function: Function, **fields: Any) -> tuple[Any, Any]:
    """What the one row is answered over JSON and over v2, or the errors of it."""
    found: list[Any] = []
    as_json = loads(dumps(fields))
    try:
        found.append(loads(dumps((await function.call_row(as_json))[0])))
    except WakefulError as error:
        found.append(error)
    tensors = {
        name: np.array([value], object if isinstance(value, str) else None)
        for name, value in fields.items()
    }
    try:
        response, _ = await infer(function, InferRequest("", tensors, (), False, {}))
        found.append({name: array[0] for name, array in response.outputs.items()})
    except WakefulError as error:
        found.append(error)
    return found[0], found[1]


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, np.float32)


@pytest.mark.parametrize("hops", [0, 1])
@pytest.mark.parametrize(
    ("stage", "fields"),
    [
        ("of_positive", {"x": floats(-1, 2)}),
        ("of_positive_or_none", {"x": floats(-1, 2)}),
        ("of_inner", {"x": floats(-1)}),
        ("of_short", {"x": floats(1, 2, 3, 4)}),
        ("of_two", {"x": floats(-1), "y": floats(1)}),
    ],
)
def test_a_check_of_the_authors_holds_on_both(tmp_path, stage, fields, hops):
    """Of an array, wherever it stands; and where a function is between."""

    async def work(function: Function) -> None:
        for error in await both(function, **fields):
            assert isinstance(error, RequestError)
            assert error.where.endswith("x")
        good = {name: np.abs(array[:3]) for name, array in fields.items()}
        one, other = await both(function, **good)
        assert one["s"] == other["s"] > 0

    with_function(tmp_path, [stage] + [stage] * hops, work)


@pytest.mark.parametrize(
    ("stage", "value", "expected"),
    [
        ("of_any", np.array([1, 2]), "int64 [1, 2]"),
        ("of_any", np.array([[1.5], [2.0]]), "float64 [[1.5], [2.0]]"),
        ("of_any", np.array(["a"], object), "object ['a']"),
        ("of_any", np.array([True]), "bool [True]"),
        ("of_any", np.array(2.5), "float64 2.5"),
        ("of_floats", np.array([1.5]), "float64 [1.5]"),
        ("of_floats", np.array(["a"], object), WrongDatatype),
        ("of_floats", np.array([True]), WrongDatatype),
        ("of_whole", np.array([1]), "int64 [1]"),
        ("of_whole", np.array([1.5]), WrongDatatype),
        ("of_texts", np.array(["a"], object), "object ['a']"),
        ("of_texts", np.array([1]), WrongDatatype),
    ],
)
def test_an_array_of_any_datatype_is_the_same_on_both(tmp_path, stage, value, expected):
    """And text is `str`; what its annotation does not admit is refused."""

    async def work(function: Function) -> None:
        found = await both(function, x=value.tolist())
        tensor = {"x": value[None] if value.dtype != object else np.array([value], object)}
        response: Any
        try:
            response, _ = await infer(function, InferRequest("", tensor, (), False, {}))
            response = {"s": response.outputs["s"][0]}
        except WakefulError as error:
            response = error
        for answer in (found[0], response):
            if isinstance(expected, str):
                assert answer == {"s": expected}
            else:
                assert isinstance(answer, expected)

    with_function(tmp_path, [stage], work)


def test_whole_numbers_of_json_are_floats_where_floats_are_wanted(tmp_path):
    """JSON has one kind of number; a tensor says which it is."""

    async def work(function: Function) -> None:
        for value, expected in ([1, 2], "float64 [1.0, 2.0]"), ([], "float64 []"):
            assert (await function.call_row({"x": value}))[0] == {"s": expected}

    with_function(tmp_path, ["of_floats"], work)


def test_an_array_of_unlike_rows_is_announced_so(tmp_path):
    """The protocol has no word for any datatype."""

    async def work(function: Function) -> None:
        (described,) = function.protocol.metadata()["inputs"]
        assert described == {
            "name": "x",
            "datatype": "BYTES",
            "shape": [-1, -1],
            "parameters": {"any_datatype": True, "any_rank": True},
        }

    with_function(tmp_path, ["of_any"], work)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4), ()])
def test_an_array_without_a_shape_has_any_number_of_dimensions_on_both(tmp_path, shape):
    """A row of it; the rows axis must be there."""
    array = np.ones(shape, np.float32)

    async def work(function: Function) -> None:
        one, other = await both(function, x=array)
        assert one["s"] == other["s"].tolist() == list(shape)
        with pytest.raises(WrongShape):
            check_inputs(
                InferRequest("", {"x": np.float32(1)[...]}, (), False, {}), function.protocol.inputs
            )

    with_function(tmp_path, ["of_any_rank"], work)


def test_no_pairs_at_all_are_an_array_of_pairs(tmp_path):
    """`[]` shows no second axis; the shape does, as an answer of it is written."""

    async def work(function: Function) -> None:
        one, other = await both(function, x=np.zeros((0, 2), np.float32))
        assert one["s"] == other["s"].tolist() == [0, 2]
        with pytest.raises(WrongShape):
            await function.call_row({"x": [[]]})

    with_function(tmp_path, ["of_pairs"], work)


@pytest.mark.parametrize(
    ("stage", "of", "fits"),
    [
        ("number", "small", True),
        ("number", "most", True),
        ("number", "least", True),
        ("number", "above", False),
        ("number", "unsigned", False),
        ("number", "numpy", False),
        ("numbers", "most", True),
        ("numbers", "above", False),
        ("numbers", "unsigned", False),
        ("bytes_of", "fits", True),
        ("bytes_of", "wraps", False),
        ("bytes_of", "big", False),
    ],
)
def test_a_number_is_right_or_refused(tmp_path, stage, of, fits):
    """None comes out as another one: JSON has it, its tensor cannot."""

    async def work(function: Function) -> None:
        one, other = await both(function, of=of)
        if fits:
            assert one["s"] == other["s"].tolist()
        else:
            assert isinstance(other, FunctionError)
            assert "row 0" in other.message

    with_function(tmp_path, [stage], work)


def test_a_half_that_would_be_infinite_is_the_stages_fault_on_both(tmp_path):
    """numpy makes infinity of 70000."""

    async def work(function: Function) -> None:
        assert all(isinstance(one, FunctionError) for one in await both(function, of="above"))
        one, other = await both(function, of="fits")
        assert one["s"] == other["s"] == 1.5

    with_function(tmp_path, ["half"], work)


def test_the_row_at_fault_is_named(tmp_path):
    """And the others are answered by JSON."""

    async def work(function: Function) -> None:
        rows = {"of": np.array(["least", "above"], object)}
        with pytest.raises(FunctionError, match="row 1"):
            await infer(function, InferRequest("", rows, (), False, {}))
        outcomes, _ = await function.call_rows([{"of": "least"}, {"of": "above"}])
        assert outcomes == [{"s": -1}, {"s": 2**63}]

    with_function(tmp_path, ["number"], work)


def test_rows_of_unlike_datatypes_make_no_tensor(tmp_path):
    """Each by itself does; numpy would make text of the number."""

    async def work(function: Function) -> None:
        for of in ("int", "text"):
            asked = InferRequest("", {"of": np.array([of], object)}, (), False, {})
            await infer(function, asked)
        rows = {"of": np.array(["int", "text"], object)}
        with pytest.raises(RequestError, match="datatypes"):
            await infer(function, InferRequest("", rows, (), False, {}))

    with_function(tmp_path, ["untyped"], work)


@pytest.mark.parametrize("hops", [0, 1, 2])
@pytest.mark.parametrize(
    ("stage", "text", "answer", "tensor"),
    [
        ("scores", "x", {"scores": {"a": 0.5}}, {"scores": b'{"a":0.5}'}),
        ("extra", "x", {"extra": {"a": 0.5}}, {"extra": b'{"a":0.5}'}),
        ("extra", "", {}, {"extra": b"null"}),
        ("plain", "x", {"a": 0.5}, {"s": b'{"a":0.5}'}),
    ],
)
def test_a_key_that_is_named_is_in_the_answer(tmp_path, stage, text, answer, tensor, hops):
    """Also a lone one, of a mapping, that may be missing; a plain dict has keys of its own. OpenAPI
    says so too.
    """
    names = [stage] + [stage] * hops

    async def work(function: Function) -> None:
        assert await both(function, text=text) == (answer, tensor)
        outcomes, _ = await function.call_rows([{"text": "x"}, {"text": text}, {"text": 1}])
        assert outcomes[1] == answer
        assert isinstance(outcomes[2], WakefulError)
        (described,) = function.protocol.metadata()["outputs"]
        assert ("is_answer" in described.get("parameters", {})) is (stage == "plain")

    with_function(tmp_path, names, work)
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    assembly = assemble(linked(tmp_path, names), settings, None)  # type: ignore[arg-type]  # no model
    described = describe_interface(assembly)
    assert described is not None
    properties = described["answer"].get("properties", {})
    assert list(properties) == ([] if stage == "plain" else [stage])
