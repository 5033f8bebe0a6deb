"""A function computed as ``docs/graphs.md`` has it: stage by stage, one row at a time, in plain
Python.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from runtime.errors import RequestError
from tests.graphs.made import Made, Project, Stage
from tests.graphs.models import compute
from tests.graphs.values import READ, plain


@dataclass(frozen=True)
class Expected:
    """What must come of a row: an answer; or one of these errors, which several elements may come
    to. ``items`` are a stream's; ``values``, what a stage gets that calls the function, where that
    is not the answer: one mapping by its name.
    """

    answer: dict[str, Any] | None = None
    codes: frozenset[str] = frozenset()
    items: tuple[Any, ...] = ()
    values: dict[str, Any] | None = None


@dataclass(frozen=True)
class Each:
    """One value an element of a list, which is known by its name and by how often it was given."""

    values: tuple[Any, ...]
    over: tuple[str, int]


class _Gap:
    """In the place of an element that has no value."""


GAP = _Gap()


class Failed(Exception):
    """A row that some errors may be the end of."""

    def __init__(self, codes: frozenset[str]) -> None:
        super().__init__(codes)
        self.codes = codes


def evaluate(project: Project, row: dict[str, Any], made: Made | None = None) -> Expected:
    """What the first function, or another one, makes of a row."""
    try:
        return _Row(project, made or project.functions[0], row).run()
    except Failed as failed:
        return Expected(codes=failed.codes)


class _Row:
    """A row on its way. Mutable state: ``values`` by name, and ``given``, how often each was."""

    def __init__(self, project: Project, made: Made, row: dict[str, Any]) -> None:
        self.project, self.made = project, made
        self.values: dict[str, Any] = {
            name: self._default(code) for name, code in made.defaults.items() if code is not None
        }
        for name, value in row.items():
            read = READ.get(made.fields[name])
            self.values[name] = value if read is None or value is None else read(value)
        self.given: dict[str, int] = {}

    def run(self) -> Expected:
        stages = self.made.stages
        if "stream" in stages[-1].form:
            self._stages(stages[:-1])
            return self._stream(stages[-1])
        self._stages(stages)
        answer = {name: self._whole(name) for name in stages[-1].gives.values()}
        if self._answers_as_value(self.made):
            ((_, value),) = answer.items()
            return Expected(dict(value), values=answer)
        return Expected(answer)

    def _answers_as_value(self, made: Made) -> bool:
        """Whether its answer is one mapping without a key of its own."""
        last = made.stages[-1]
        if "each" in last.declared:
            return False
        if last.form == "function":
            return self._answers_as_value(self._made(last.declared["function"]))
        return last.gives.keys() == {""} and made.answer[last.gives[""]] == "Table"

    def _made(self, name: str) -> Made:
        return next(made for made in self.project.functions if made.name == name)

    def _default(self, code: str) -> Any:
        return eval(code, self.project.module.__dict__)

    def _stages(self, stages: list[Stage]) -> None:
        for each, run in groupby(stages, lambda stage: stage.declared.get("each")):
            if each is None:
                for stage in run:
                    self._give(
                        stage, self._one({name: self._whole(name) for name in self.values}, stage)
                    )
            else:
                self._run_over(each, list(run))

    def _run_over(self, each: str, run: list[Stage]) -> None:
        over = each, self.given.get(each, 0)
        ends: list[dict[str, Any]] = []
        codes: frozenset[str] = frozenset()
        for number, item in enumerate(self._whole(each)):
            values = {name: self._whole(name) for name in self.values}
            for name, value in self.values.items():
                if isinstance(value, Each) and value.over == over:
                    values[name] = value.values[number]
                    if value.values[number] is GAP:
                        del values[name]
            values[each] = item
            try:
                for stage in run:
                    values |= self._one(values, stage)
            except Failed as failed:
                codes |= failed.codes
            ends.append(values)
        if codes:
            raise Failed(codes)
        for name in dict.fromkeys(name for stage in run for name in stage.gives.values()):
            self.values[name] = Each(tuple(values.get(name, GAP) for values in ends), over)
            self.given[name] = self.given.get(name, 0) + 1

    def _give(self, stage: Stage, values: dict[str, Any]) -> None:
        self.values |= values
        for name in stage.gives.values():
            self.given[name] = self.given.get(name, 0) + 1

    def _whole(self, name: str) -> Any:
        """A value as a stage sees it that runs over nothing, or over another list."""
        value = self.values[name]
        return (
            [None if one is GAP else one for one in value.values]
            if isinstance(value, Each)
            else value
        )

    def _one(self, values: dict[str, Any], stage: Stage) -> dict[str, Any]:
        """What a stage gives for one row or element; nothing if it is not for it."""
        if not _holds(stage.declared.get("when"), values):
            return {}
        result = (
            self._called(values, stage)
            if stage.form == "function"
            else self._computed_by_model(values, stage)
            if stage.form == "model"
            else self._computed(values, stage)
        )
        own = {"": result} if "" in stage.gives else result
        return {name: own[key] for key, name in stage.gives.items()}

    def _called(self, values: dict[str, Any], stage: Stage) -> Any:
        made = self._made(stage.declared["function"])
        expected = evaluate(
            self.project,
            {take.name: values[take.source] for take in stage.takes if take.source in values},
            made,
        )
        if expected.answer is None:
            raise Failed(expected.codes)
        return expected.answer if expected.values is None else expected.values

    @staticmethod
    def _computed_by_model(values: dict[str, Any], stage: Stage) -> Any:
        name = stage.declared["onnx"].removesuffix(".onnx")
        return compute(
            name, {take.name: np.asarray(values[take.source], np.int64) for take in stage.takes}
        )

    def _computed(self, values: dict[str, Any], stage: Stage) -> Any:
        with _failing():
            return self._core(stage)(
                *self._arguments(values, stage), **stage.declared.get("with", {})
            )

    def _core(self, stage: Stage) -> Any:
        return getattr(self.project.module, f"{self.made.name}_{stage.name}_core")

    def _arguments(self, values: dict[str, Any], stage: Stage) -> Iterator[Any]:
        """Of its own: it may change them."""
        for take in stage.takes:
            yield (
                copy.deepcopy(values[take.source])
                if take.source in values
                else None
                if take.default is None
                else self._default(take.default)
            )

    def _stream(self, stage: Stage) -> Expected:
        items: list[Any] = []
        try:
            with _failing():
                for item in self._core(stage)(
                    *self._arguments({name: self._whole(name) for name in self.values}, stage)
                ):
                    own = {"": item} if "" in stage.gives else item
                    named = {name: own[key] for key, name in stage.gives.items()}
                    items.append(plain(item if self._answers_as_value(self.made) else named))
        except Failed as failed:
            return Expected(codes=failed.codes, items=tuple(items))
        return Expected(items=tuple(items))


class _failing:  # noqa: N801  # reads as what it is for
    """What a stage raises, as its row's errors."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, Exception | SystemExit | asyncio.CancelledError):
            raise Failed(
                frozenset({"bad_request" if isinstance(error, RequestError) else "function_failed"})
            ) from None


def _holds(when: Any, values: dict[str, Any]) -> bool:
    if when is None:
        return True
    if isinstance(when, str):
        name = when.removeprefix("not ")
        return bool(values[name]) is (name == when)
    ((name, wanted),) = when.items()
    return plain(values[name]) in (wanted if isinstance(wanted, list) else [wanted])
