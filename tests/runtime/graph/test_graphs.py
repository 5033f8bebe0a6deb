"""Graphs with more than one way through them: lists that are run over, branches, ensembles,
functions that call functions.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from runtime.batching.calls import CallOptions
from runtime.batching.workers import Workers
from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.split_stages import expand
from runtime.errors import DeadlineExceeded, FunctionError, LoadError, WakefulError
from runtime.execution.function import Function
from runtime.graph.resolve import link_callees
from runtime.library.library import DeclaredFunction, FunctionLibrary
from runtime.settings import Settings
from tests import onnx_models
from tests.movable_clock import MovableClock
from tests.problems import expect_values
from wakeful import RequestError, Rows, Shape, State

HERE = __name__
Triple = Annotated[NDArray[np.float32], Shape(3)]


class Cut(TypedDict):
    """A page's lines."""

    lines: list[Triple]
    is_long: bool


def cut(numbers: list[float]) -> Cut:
    """Numbers by threes."""
    if 13 in numbers:
        raise RequestError("13 is not wanted.", where="numbers")
    parts = np.array(numbers, np.float32).reshape(-1, 3)
    return {"lines": list(parts), "is_long": len(parts) > 2}


BATCHES: list[int] = []


class Said(TypedDict):
    """What a line says."""

    text: Rows[str]


def say(y: Rows[Triple]) -> Said:
    """A doubled line in words; remembers the batch."""
    BATCHES.append(len(y))
    if any(line[0] == -2 for line in y):
        raise ValueError("minus one")
    return {"text": [" ".join(f"{number:g}" for number in line) for line in y]}


def page(text: list[str], is_long: bool) -> dict[str, Any]:
    """The answer."""
    return {"text": text, "is_long": is_long}


def long_answer(y: list[Triple]) -> float:
    """A sum of everything."""
    return float(np.sum(y))


def either(text: list[str], total: float | None, note: str = "none") -> dict[str, Any]:
    """Takes what one branch gives."""
    return {"lines": len(text), "total": total, "note": note}


def mean(one: Triple, two: Triple) -> dict[str, list[float]]:
    """Of two models."""
    return {"mean": [float(value) for value in (one + two) / 2]}


class Label(TypedDict):
    """What a word comes to."""

    label: str


def label(word: str) -> Label:
    """A word marked."""
    if word == "bad":
        raise RequestError("no bad words.", where="word")
    return {"label": f"<{word}>"}


def words(sentence: str) -> list[str]:
    """Words of a sentence."""
    return sentence.split()


def joined(label: list[str]) -> dict[str, str]:
    """And back."""
    return {"sentence": "".join(label)}


PAGE = [
    {"stage": "cut", "python": f"{HERE}:cut"},
    {"stage": "model", "onnx": "double.onnx", "each": "lines", "inputs": {"x": "lines"}},
    {"stage": "say", "python": f"{HERE}:say", "each": "lines"},
]
ANSWER = {"stage": "page", "python": f"{HERE}:page"}


def declared(root: Path, **args: Any) -> tuple[FunctionSpec, Settings]:
    """A function, and the settings whose root is the test's folder."""
    onnx_models.double(root / "double.onnx")
    return FunctionSpec.from_args("f", "/v2/models/f", args), Settings.read(
        {"WAKEFUL_ROOT": str(root)}
    )


def with_function(root: Path, work: Callable[[Function], Awaitable[Any]], **args: Any) -> Any:
    """Loads, works, closes."""

    async def main() -> Any:
        function = await Function.load(*declared(root, **args))
        try:
            return await work(function)
        finally:
            await function.close(5)

    return asyncio.run(main())


def numbers(*rows: int) -> list[dict[str, Any]]:
    """Requests with so many lines each, every number another."""
    return [
        {"numbers": [float(100 * row + number) for number in range(3 * lines)]}
        for row, lines in enumerate(rows)
    ]


def said(row: int, lines: int) -> list[str]:
    """The lines that ``numbers`` comes to."""
    return [
        " ".join(f"{2 * (100 * row + 3 * line + number):g}" for number in range(3))
        for line in range(lines)
    ]


def test_a_page_becomes_lines_and_one_answer(tmp_path: Path) -> None:
    """Every line in its place, whatever the others' number; a page without any is answered too."""
    outcomes, _ = with_function(
        tmp_path, lambda function: function.call_rows(numbers(2, 0, 5, 1)), graph=[*PAGE, ANSWER]
    )
    assert [outcome["text"] for outcome in outcomes] == [said(0, 2), [], said(2, 5), said(3, 1)]


def test_lines_of_different_calls_share_batches(tmp_path: Path) -> None:
    """While the only worker runs one batch, the lines of other calls are gathered."""
    BATCHES.clear()

    async def work(function: Function) -> list[Any]:
        return await asyncio.gather(*[function.call_row(row) for row in numbers(*[2] * 8)])

    answers = with_function(tmp_path, work, graph=[*PAGE, ANSWER])
    assert [answer["text"] for answer, _ in answers] == [said(row, 2) for row in range(8)]
    assert max(BATCHES) > 2


def test_a_line_that_fails_fails_its_page_alone(tmp_path: Path) -> None:
    """The lines of other pages in the same batch are as if nothing had been."""
    rows = numbers(2, 2, 2)
    rows[1]["numbers"][3] = -1.0
    outcomes, _ = with_function(
        tmp_path, lambda function: function.call_rows(rows), graph=[*PAGE, ANSWER]
    )
    assert isinstance(outcomes[1], FunctionError)
    assert [outcomes[0]["text"], outcomes[2]["text"]] == [said(0, 2), said(2, 2)]


def test_the_answer_may_be_a_list_of_elements(tmp_path: Path) -> None:
    """A last stage that runs over a list needs no stage after it."""
    answer, _ = with_function(
        tmp_path, lambda function: function.call_row(numbers(2)[0]), graph=PAGE
    )
    assert answer == {"text": said(0, 2)}


def test_a_row_with_too_many_elements_fails(tmp_path: Path) -> None:
    """By limits.max_fan_out, which may change while the function runs."""

    async def work(function: Function) -> None:
        with pytest.raises(RequestError) as refused:
            await function.call_row(numbers(4)[0])
        expect_values(refused.value, "4 elements", "'lines'", "limits.max_fan_out", "3")

    with_function(tmp_path, work, graph=[*PAGE, ANSWER], limits={"max_fan_out": 3})


@pytest.mark.parametrize(("lines", "total"), [(2, None), (3, 72.0)])
def test_rows_take_their_branch(tmp_path: Path, lines: int, total: float | None) -> None:
    """What the other would have given is None, or the parameter's default."""
    graph = [
        *PAGE,
        {"stage": "total", "python": f"{HERE}:long_answer", "when": "is_long"},
        {
            "stage": "note",
            "python": f"{HERE}:label",
            "inputs": {"word": "word"},
            "when": "is_long",
            "outputs": {"note": "note"},
        },
        {"stage": "either", "python": f"{HERE}:either"},
    ]
    graph[4] = {
        "stage": "note",
        "python": f"{HERE}:long_answer",
        "when": "not is_long",
        "outputs": {"note": "unused"},
    }
    answer, _ = with_function(
        tmp_path, lambda function: function.call_row(numbers(lines)[0]), graph=graph
    )
    assert answer == {"lines": lines, "total": total, "note": "none"}


def test_two_models_on_one_input_are_one_answer(tmp_path: Path) -> None:
    """An ensemble: outputs of the same name are renamed."""
    node = helper.make_node("Mul", ["x", "x"], ["y"])
    shape = (onnx.TensorProto.FLOAT, ["rows", 3])
    onnx_models.save(tmp_path / "square.onnx", [node], {"x": shape}, {"y": shape})
    graph = [
        {"stage": "doubled", "onnx": "double.onnx", "outputs": {"y": "one"}},
        {"stage": "squared", "onnx": "square.onnx", "outputs": {"y": "two"}},
        {"stage": "mean", "python": f"{HERE}:mean"},
    ]
    answer, _ = with_function(
        tmp_path, lambda function: function.call_row({"x": [1.0, 2.0, 3.0]}), graph=graph
    )
    assert answer == {"mean": [1.5, 4.0, 7.5]}


class Lines(TypedDict):
    """Of a text."""

    lines: list[str]
    is_loud: bool


def lines_of(text: str) -> Lines:
    """Its words; of one text, what is no list."""
    return {"lines": None if text == "bad" else text.split(), "is_loud": text.isupper()}  # type: ignore[typeddict-item]


class Word(TypedDict):
    """A line's word, or all of them in one."""

    word: str


def word_of(lines: str) -> Word:
    """In capitals."""
    return {"word": lines.upper()}


def together(word: list[str]) -> Word:
    """All words, under the name that each of them had."""
    return {"word": "+".join(word)}


def tag(lines: str, word: str) -> str:
    """A line next to the word."""
    return f"{lines}:{word}"


class Hushed(TypedDict):
    """A value under its own condition."""

    is_loud: bool
    note: str


def hush(text: str) -> Hushed:
    """What was loud is so no more."""
    return {"is_loud": False, "note": text.lower()}


def shout(text: str) -> str:
    """For what is loud still."""
    return f"{text}!"


def note_and_shout(note: str | None, shout: str | None) -> dict[str, Any]:
    """Both."""
    return {"note": note, "shout": shout}


WORDS = [
    {"stage": "lines", "python": f"{HERE}:lines_of"},
    {"stage": "word", "python": f"{HERE}:word_of", "each": "lines"},
]


def test_a_replaced_word_is_no_letter_of_itself(tmp_path: Path) -> None:
    """A value of the whole row, in a stage that runs over the list for which the name stood
    before.
    """
    graph = [
        *WORDS,
        {"stage": "together", "python": f"{HERE}:together"},
        {"stage": "tag", "python": f"{HERE}:tag", "each": "lines"},
    ]
    answer, _ = with_function(
        tmp_path, lambda function: function.call_row({"text": "a b c"}), graph=graph
    )
    assert answer == {"tag": ["a:A+B+C", "b:A+B+C", "c:A+B+C"]}


def test_a_condition_that_its_own_stage_gives_again_is_read_again(tmp_path: Path) -> None:
    """The next stage of the same condition sees the new value."""
    graph = [
        WORDS[0],
        {"stage": "hush", "python": f"{HERE}:hush", "when": "is_loud"},
        {"stage": "shout", "python": f"{HERE}:shout", "when": "is_loud"},
        {"stage": "note_and_shout", "python": f"{HERE}:note_and_shout"},
    ]
    answer, _ = with_function(
        tmp_path, lambda function: function.call_row({"text": "HI"}), graph=graph
    )
    assert answer == {"note": "hi", "shout": None}


def test_a_row_whose_list_is_none_fails_alone(tmp_path: Path) -> None:
    """Of one call, and of many that share a batch; nothing is left inside."""
    graph = [*WORDS, {"stage": "together", "python": f"{HERE}:together"}]

    async def work(function: Function) -> None:
        outcomes, _ = await function.call_rows(
            [{"text": "a b"}] * 3 + [{"text": "bad"}] + [{"text": "c"}]
        )
        assert isinstance(outcomes[3], FunctionError)
        assert "'lines'" in outcomes[3].message
        assert [*outcomes[:3], outcomes[4]] == [{"word": "A+B"}] * 3 + [{"word": "C"}]
        calls = [function.call_row({"text": "bad" if i == 3 else "a b"}) for i in range(16)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [i for i, answer in enumerate(answers) if isinstance(answer, BaseException)] == [3]
        assert function.in_flight.calls == 0

    with_function(tmp_path, work, graph=graph)


def test_a_deadline_ends_inner_rows(tmp_path: Path, clock: MovableClock) -> None:
    """The client is answered in time, and the rest of its page is dropped."""
    release = threading.Event()
    HOLD.append(release)
    HELD.append(threading.Event())
    graph = [
        PAGE[0],
        {"stage": "hold", "python": f"{HERE}:hold", "each": "lines"},
        {"stage": "held", "python": f"{HERE}:held"},
    ]

    async def work(function: Function) -> None:
        call = asyncio.create_task(function.call_row(numbers(3)[0]))
        assert await asyncio.to_thread(HELD[-1].wait, 30)
        clock.advance(60)
        with pytest.raises(DeadlineExceeded):
            await call
        release.set()

    with_function(tmp_path, work, graph=graph, limits={"request_timeout_s": 60})


HOLD: list[threading.Event] = []
HELD: list[threading.Event] = []


def hold(lines: Triple) -> int:
    """Until the test lets go."""
    HELD[-1].set()
    HOLD[-1].wait(30)
    return 1


def held(hold: list[int]) -> dict[str, int]:
    """How many."""
    return {"held": sum(hold)}


def spoken(sentence: str) -> Iterator[str]:
    """A word at a time."""
    yield from sentence.split()


class Count(TypedDict):
    """How many calls there were."""

    seen: State[int]
    calls: int


def count(seen: State[int]) -> Count:
    """Keeps a number."""
    now = (seen or 0) + 1
    return {"seen": now, "calls": now}


def sentences(text: str) -> list[str]:
    """Its lines."""
    return text.splitlines()


def every(said: list[dict[str, str]]) -> list[str]:
    """What was said of each."""
    return [one["sentence"] for one in said]


LABEL = {"name": "label", "graph": [{"stage": "label", "python": f"{HERE}:label"}]}
SENTENCE: dict[str, Any] = {
    "name": "sentence",
    "graph": [
        {"stage": "words", "python": f"{HERE}:words"},
        {"stage": "label", "function": "label", "each": "words", "inputs": {"word": "words"}},
        {"stage": "joined", "python": f"{HERE}:joined"},
    ],
    "example": {"sentence": "a b"},
}


TEXT = {
    "name": "text",
    "graph": [
        {"stage": "sentences", "python": f"{HERE}:sentences"},
        {
            "stage": "said",
            "function": "sentence",
            "each": "sentences",
            "inputs": {"sentence": "sentences"},
            "outputs": {"joined": "said"},
        },
        {"stage": "all", "python": f"{HERE}:every"},
    ],
}


def file_of(
    root: Path, *functions: Mapping[str, Any]
) -> tuple[list[FunctionSpec], list[tuple[str, str, str]], Settings]:
    """The functions of a file, linked, and what was wrong: function, key and message."""
    settings = Settings.read({"WAKEFUL_ROOT": str(root)})
    specs = [
        FunctionSpec.from_args(
            of["name"], f"/v2/models/{of['name']}", {key: of[key] for key in of if key != "name"}
        )
        for of in functions
    ]
    linked, faults = link_callees(specs, settings)
    return list(linked), [(name, fault.key, fault.message) for name, fault in faults], settings


def test_a_function_calls_another_that_is_loaded_with_it(tmp_path: Path) -> None:
    """In a process without another copy of it, as in a probe; rows of a fan-out go there together,
    and a row's error is its own.
    """
    (sentence, _), faults, settings = file_of(tmp_path, SENTENCE, LABEL)
    assert not faults

    async def main() -> None:
        function = await Function.load(sentence, settings)
        try:
            answer, _ = await function.call_row({"sentence": "to be"})
            assert answer == {"sentence": "<to><be>"}
            outcomes, _ = await function.call_rows([{"sentence": "so bad"}, {"sentence": "good"}])
            assert isinstance(outcomes[0], WakefulError)
            assert outcomes[0].message == "no bad words."
            assert outcomes[1] == {"sentence": "<good>"}
        finally:
            await function.close(5)

    asyncio.run(main())


def test_the_id_and_the_status_of_a_call_go_with_it(tmp_path: Path) -> None:
    """To a function that a stage calls, and back."""
    called = {"name": "called", "graph": [{"stage": "s", "python": "tests.refusers:refuse_some"}]}
    ids = {"name": "ids", "graph": [{"stage": "s", "python": "tests.refusers:ids"}]}
    calls = [
        {"name": name, "graph": [{"stage": "s", "function": of}]}
        for name, of in (("refuses", "called"), ("identifies", "ids"))
    ]
    (refuses, identifies, *_), faults, settings = file_of(tmp_path, *calls, called, ids)
    assert not faults

    async def main() -> None:
        one, two = await Function.load(refuses, settings), await Function.load(identifies, settings)
        try:
            outcomes, _ = await one.call_rows([{"text": "a"}, {"text": "422"}, {"text": "down"}])
            assert outcomes[0] == {"s": "a"}
            assert [error.status for error in outcomes[1:] if isinstance(error, WakefulError)] == [
                422,
                502,
            ]
            assert (await two.call_row({"text": "a"}, CallOptions("r7")))[0] == {"s": "a r7"}
        finally:
            await one.close(5)
            await two.close(5)

    asyncio.run(main())


def test_functions_of_one_library_share_the_one_that_they_call(tmp_path: Path) -> None:
    """It wakes with the first of them, and is loaded once."""
    (sentence, other, label_), faults, settings = file_of(
        tmp_path, SENTENCE, {**SENTENCE, "name": "other"}, LABEL
    )
    assert not faults

    async def main() -> None:
        workers = Workers(1)
        library = FunctionLibrary(
            [DeclaredFunction(spec) for spec in (sentence, other, label_)],
            settings,
            workers=workers,
            budget_bytes=None,
        )
        try:
            for name in ("sentence", "other"):
                async with library.use(name) as function:
                    answer, _ = await function.call_row({"sentence": "to be"})
                    assert answer == {"sentence": "<to><be>"}
            assert library.counts() == {"ready": 3}
            called = library.entries.require("label").function
            assert called is not None
            assert called.in_flight.total_calls >= 2  # those of both, and of their first runs
        finally:
            await library.close()
            workers.close(5)

    asyncio.run(main())


def test_an_answer_that_is_a_mapping_is_the_same_when_its_stage_is_split_off(
    tmp_path: Path,
) -> None:
    """What is answered does not tell where it was computed, and a function that ends with a call
    answers as the one it calls.
    """
    last = {"stage": "held", "python": f"{HERE}:held", "deployment": {"min_replicas": 1}}
    whole = FunctionSpec.from_args("f", "/v2/models/f", {"graph": [last]})
    settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    (_, split), faults = link_callees(expand([whole]), settings)
    assert not faults

    async def main() -> list[Any]:
        answers = []
        for spec in (whole, split):
            function = await Function.load(spec, settings)
            try:
                answers.append((await function.call_row({"hold": [1, 2]}))[0])
            finally:
                await function.close(5)
        return answers

    one, other = asyncio.run(main())
    assert one == other == {"held": 3}


def test_a_list_within_a_list_is_a_function_with_lists(tmp_path: Path) -> None:
    """Each sentence of a text, each word of a sentence."""
    specs, faults, settings = file_of(tmp_path, TEXT, SENTENCE, LABEL)
    assert not faults

    async def main() -> None:
        function = await Function.load(specs[0], settings)
        try:
            assert (await function.call_row({"text": "to be\nor not"}))[0] == {
                "all": ["<to><be>", "<or><not>"]
            }
        finally:
            await function.close(5)

    asyncio.run(main())


def weighted(
    text: str,
    weights: list[float] = [1.0, 2.0],  # noqa: B006  # as users do
    extra: bytes = b"x",
    by: int = 2,
) -> dict[str, Any]:
    """Takes what may be left out."""
    return {"text": text, "weights": weights, "extra": extra == b"x", "by": by}


def said_of(weighted: dict[str, Any]) -> dict[str, Any]:
    """What it took."""
    return weighted


class Many(TypedDict):
    """Elements."""

    texts: list[str]


def many(n: int) -> Many:
    """So many."""
    return {"texts": [str(number) for number in range(n)]}


def count_of(label: list[str]) -> dict[str, Any]:
    """How many came back, and whether each is in its place."""
    return {"n": len(label), "in_order": label == [f"<{number}>" for number in range(len(label))]}


async def both_ways(
    specs: list[FunctionSpec], settings: Settings, work: Callable[[Function], Awaitable[None]]
) -> None:
    """With the functions that the first one calls loaded for it, and as one of a library's."""
    function = await Function.load(specs[0], settings)
    try:
        await work(function)
    finally:
        await function.close(5)
    workers = Workers(1)
    library = FunctionLibrary(
        [DeclaredFunction(spec) for spec in specs], settings, workers=workers, budget_bytes=None
    )
    try:
        async with library.use(specs[0].name) as function:
            await work(function)
    finally:
        await library.close()
        workers.close(5)


def test_a_caller_may_omit_a_field_with_a_default(
    tmp_path: Path,
) -> None:
    """Whatever the default is; and what the row has goes there."""
    called = {"name": "sub", "graph": [{"stage": "weighted", "python": f"{HERE}:weighted"}]}
    top = {
        "name": "top",
        "graph": [
            {"stage": "call", "function": "sub"},
            {"stage": "said", "python": f"{HERE}:said_of"},
        ],
    }
    specs, faults, settings = file_of(tmp_path, top, called)
    assert not faults

    async def work(function: Function) -> None:
        default = {"text": "a", "weights": [1.0, 2.0], "extra": True, "by": 2}
        assert (await function.call_row({"text": "a"}))[0] == default
        assert (await function.call_row({"text": "a", "weights": [3.0], "by": 5}))[0] == {
            **default,
            "weights": [3.0],
            "by": 5,
        }
        assert "default" not in function.validator.json_schema()["properties"]["extra"]

    asyncio.run(both_ways(specs, settings, work))


def test_more_elements_than_a_function_takes_go_there_in_parts(tmp_path: Path) -> None:
    """Of one row and of many, with capacity for other callers; each answer comes back to
    its element.
    """
    label_ = {**LABEL, "limits": {"max_rows": 16}}
    top = {
        "name": "top",
        "graph": [
            {"stage": "many", "python": f"{HERE}:many"},
            {"stage": "call", "function": "label", "each": "texts", "inputs": {"word": "texts"}},
            {"stage": "count", "python": f"{HERE}:count_of"},
        ],
    }
    specs, faults, settings = file_of(tmp_path, top, label_)
    assert not faults

    async def work(function: Function) -> None:
        outcomes, _ = await function.call_rows([{"n": 100}, {"n": 0}, {"n": 7}])
        assert outcomes == [{"n": n, "in_order": True} for n in (100, 0, 7)]
        two = await asyncio.gather(*[function.call_rows([{"n": 10}] * 4) for _ in range(2)])
        assert [outcome for outcomes, _ in two for outcome in outcomes] == [
            {"n": 10, "in_order": True}
        ] * 8

    asyncio.run(both_ways(specs, settings, work))


def test_one_file_is_one_session_in_a_process(tmp_path: Path) -> None:
    """However many functions run it."""
    spec, settings = declared(tmp_path, graph=[{"stage": "m", "onnx": "double.onnx"}])
    twin = FunctionSpec.from_args("twin", "/v2/models/twin", spec.to_args())

    async def main() -> None:
        one, two = await Function.load(spec, settings), await Function.load(twin, settings)
        sessions = {
            id(stage.session)
            for function in (one, two)
            for segment in function._segments
            for stage in segment.stages
        }  # type: ignore[union-attr]
        await one.close(5)
        await two.close(5)
        assert len(sessions) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("functions", "faults"),
    [
        (
            [SENTENCE],
            [("sentence", "function", ["'label'", "sentence"])],
        ),
        (
            [{**SENTENCE, "name": "lable"}, LABEL | {"name": "labels"}],
            [("lable", "function", ["'label'", "'lable'?"])],
        ),
        (
            [
                {"name": "a", "graph": [{"stage": "s", "function": "b"}]},
                {"name": "b", "graph": [{"stage": "s", "python": f"{HERE}:spoken"}]},
            ],
            [("a", "function", ["'b'", "streams"])],
        ),
        (
            [
                {"name": "a", "graph": [{"stage": "s", "function": "b"}]},
                {
                    "name": "b",
                    "graph": [{"stage": "s", "python": f"{HERE}:count"}],
                    "sequences": {},
                },
            ],
            [("a", "function", ["'b'", "sequences"])],
        ),
        (
            [
                {"name": "a", "graph": [{"stage": "s", "function": "b"}]},
                {"name": "b", "graph": [{"stage": "s", "python": "tests.refusers:tell"}]},
            ],
            [("a", "function", ["'b'", "header 'x-tenant'"])],
        ),
        (
            [
                {"name": "a", "graph": [{"stage": "s", "function": "b"}]},
                {"name": "b", "graph": [{"stage": "s", "function": "c"}]},
                {"name": "c", "graph": [{"stage": "s", "function": "a"}]},
            ],
            [
                ("c", "function", ["a → b → c → a"]),
                ("b", "function", ["'c'", "at fault"]),
                ("a", "function", ["'b'", "at fault"]),
            ],
        ),
    ],
)
def test_a_call_of_an_unknown_function_is_refused(
    tmp_path: Path, functions: list[dict[str, Any]], faults: list[tuple[str, str, list[str]]]
) -> None:
    """Refused before anything starts, with the stage that makes it."""
    _, found, _ = file_of(tmp_path, *functions)
    assert [(name, key) for name, key, _ in found] == [(name, key) for name, key, _ in faults]
    for (_, _, message), (_, _, values) in zip(found, faults, strict=True):
        expect_values(message, *values)


def test_a_function_that_was_not_linked_does_not_load(tmp_path: Path) -> None:
    """As under plain `serve deploy`, which reads one application at a time."""
    spec = FunctionSpec.from_args(
        "sentence", "/v2/models/sentence", {key: SENTENCE[key] for key in SENTENCE if key != "name"}
    )
    with pytest.raises(LoadError, match="wakeful export"):
        asyncio.run(Function.load(spec, Settings.read({"WAKEFUL_ROOT": str(tmp_path)})))


def test_values_are_dropped_after_their_last_use(tmp_path: Path) -> None:
    """A page's lines are gone once they are said, and its numbers once they are cut; what the
    answer needs stays.
    """

    async def work(function: Function) -> list[str]:
        _, call = await function.call_rows(numbers(2))
        assert call is not None
        return sorted(call.rows[0].values)

    assert with_function(tmp_path, work, graph=[*PAGE, ANSWER]) == ["page"]


class Partly(TypedDict):
    """A key that need not be there."""

    a: int
    note: NotRequired[str]


def partly(n: int) -> Partly:
    """With it for what is above 0."""
    return {"a": n, "note": "n"} if n > 0 else {"a": n}


def noted(a: int, note: str = "none") -> dict[str, Any]:
    """Does without it."""
    return {"a": a, "note": note}


def test_a_called_function_may_leave_out_what_is_not_required(tmp_path: Path) -> None:
    """A later stage has its default then."""
    calling = [
        {"stage": "partly", "function": "partly"},
        {"stage": "noted", "python": f"{HERE}:noted"},
    ]
    called = {"name": "partly", "graph": [{"stage": "partly", "python": f"{HERE}:partly"}]}
    (caller, _), faults, settings = file_of(tmp_path, {"name": "caller", "graph": calling}, called)
    assert not faults

    async def main() -> None:
        function = await Function.load(caller, settings)
        try:
            outcomes, _ = await function.call_rows([{"n": 0}, {"n": 1}])
            assert outcomes == [{"a": 0, "note": "none"}, {"a": 1, "note": "n"}]
        finally:
            await function.close(5)

    asyncio.run(main())
