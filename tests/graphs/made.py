"""Random functions: declarations and the code of their stages, from a seed.

What is made is right by ``docs/graphs.md``: every value that a stage takes is there for its rows,
and of the kind that it is annotated.
"""

from __future__ import annotations

import random
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.graphs.models import MODELS
from tests.graphs.values import MAKERS, NUMPY

HEAD = """\
from collections.abc import AsyncIterator, Iterator
from typing import TypedDict
import numpy as np
from wakeful import Rows
from tests.graphs.values import (
    Box, Cell, Hue, Letter, Numbers, Table, kept, mix, nap, rest, some, spoil, trouble
)
"""

OBJECTS = ("Hue", "list[Hue]", "Box", "Table", "set[int]")
"""Kinds of which another function says that they are objects; of a default only that it has one."""

SIMPLE = ("int", "str", "bool", "float", "list[int]", "list[str]", "Numbers", *OBJECTS)
"""Kinds that another function gives."""

OFTEN = (*MAKERS, *["Numbers"] * 4)
"""Kinds of fields and values: models take arrays."""

DEFAULTS = {
    "int": "3",
    "str": "'none'",
    "bool": "True",
    "float": "0.5",
    "list[int]": "[1, 2]",
    "list[str]": "['d']",
    "Numbers": "np.arange(3)",
    "Hue": "Hue.GREEN",
    "list[Hue]": "[Hue.RED]",
    "Box": "Box(1, Hue.BLUE)",
    "Table": "{'d': [1]}",
    "set[int]": "{1, 2}",
}


When = tuple[Any, str, int]
"""A condition as it is written, the name of the value that it reads, and how often that had been given again.
"""


@dataclass(frozen=True)
class Value:
    """What a graph knows of a value: its kind, the list it was given for the elements of, the
    condition under which it was given.
    """

    kind: str
    over: tuple[str, int] | None = None
    when: When | None = None
    is_nullable: bool = False


@dataclass(frozen=True)
class Take:
    """A parameter: the value it takes, its annotation, its default."""

    name: str
    source: str
    kind: str
    default: str | None = None


@dataclass
class Stage:
    """A stage, declared and known.

    Attributes:
        declared: as under ``graph``.
        takes: its parameters, or the fields of the function that it calls.
        gives: what it gives by its own names, to the names of the values.
        form: ``plain``, ``class``, ``async``, ``rows``, ``function``, ``model``, ``stream``,
            ``async stream``.
        kinds: of what it gives, in order.
    """

    declared: dict[str, Any]
    takes: list[Take]
    gives: dict[str, str]
    form: str
    kinds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.declared["stage"])


@dataclass
class Made:
    """A function.

    Attributes:
        fields: kind by name; ``defaults`` of those that may be left out, as code, None where only
            the function called knows.
        answer: kind by name.
    """

    name: str
    stages: list[Stage] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str | None] = field(default_factory=dict)
    answer: dict[str, str] = field(default_factory=dict)
    args: dict[str, Any] = field(default_factory=dict)


@dataclass
class Project:
    """Functions that call each other, the first of them by callers; and the module of their stages."""

    functions: list[Made]
    source: str
    module: types.ModuleType

    def __str__(self) -> str:
        declared = "\n".join(f"{made.name}: {made.args}" for made in self.functions)
        return f"{declared}\n\n{self.source}"


def make(seed: int, size: int) -> Project:
    """A project of a seed, with at most ``size`` stages in a function."""
    rng = random.Random(f"{seed} {size}")
    name = f"random_stages_{seed}"
    code: list[str] = []
    rate = rng.choice((0, 0, 0.004, 0.03))
    functions: list[Made] = []
    for index in reversed(range(rng.choice((1, 1, 1, 2, 2, 3)))):
        maker = _Maker(rng, f"f{index}", name, code, functions, rate)
        functions.append(maker.make(rng.randint(1, size), is_first=not index))
    if rng.random() < 0.15:
        _split(rng, functions)
    source = HEAD + "\n" + "\n\n".join(code)
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
    return Project(functions[::-1], source, module)


def _split(rng: random.Random, functions: list[Made]) -> None:
    """One of the stages gets a deployment of its own; none that knows a default that JSON cannot
    say.
    """
    stages = [
        stage
        for made in functions
        for stage in made.stages
        if stage.form in ("plain", "class", "async", "rows")
    ]
    stages = [
        stage
        for stage in stages
        if not any(take.kind in ("Numbers", "Table") and take.default for take in stage.takes)
        and all(_crosses(kind) for kind in (*stage.kinds, *(take.kind for take in stage.takes)))
    ]
    if stages:
        rng.choice(stages).declared["deployment"] = {"max_replicas": 1}


def _crosses(kind: str) -> bool:
    """Whether a value goes to another process as it is."""
    return not any(name in kind for name in ("Hue", "Box", "set"))


def a_row(rng: random.Random, made: Made) -> dict[str, Any]:
    """A request; some fields that may be left out are."""
    row = {}
    for name, kind in made.fields.items():
        if name in made.defaults and rng.random() < 0.5:
            continue
        count = rng.choice((0, 1, 2, 3, 5))
        row[name] = {
            "int": lambda: rng.randrange(50),
            "str": lambda: f"r{rng.randrange(50)}",
            "bool": lambda: rng.random() < 0.5,
            "float": lambda: rng.randrange(50) / 2,
            "Letter": lambda: rng.choice("abc"),
            "list[int]": lambda count=count: [rng.randrange(9) for _ in range(count)],
            "list[str]": lambda count=count: [f"{rng.randrange(9)}" for _ in range(count)],
            "list[list[int]]": lambda count=count: [
                [rng.randrange(9)] * rng.randrange(4) for _ in range(count)
            ],
            "Numbers": lambda count=count: np.array(
                [rng.randrange(9) for _ in range(count)], np.int64
            ),
            "Hue": lambda: rng.randrange(3),
            "list[Hue]": lambda count=count: [rng.randrange(3) for _ in range(count)],
            "Box": lambda: {"size": rng.randrange(9), "hue": rng.randrange(3)},
            "Table": lambda count=count: {str(i): [i] * count for i in range(count)},
            "set[int]": lambda count=count: list(range(count)),
        }[kind]()
    return row


def element(kind: str) -> str | None:
    """The kind of what a list of that kind has."""
    if kind == "Numbers":
        return "Cell"
    if not kind.startswith("list["):
        return None
    inner = kind.removeprefix("list[").removesuffix("]")
    return None if inner.endswith("| None") else inner


class _Maker:
    """Makes one function. Mutable state: every attribute grows with each stage."""

    def __init__(
        self,
        rng: random.Random,
        name: str,
        module: str,
        code: list[str],
        others: list[Made],
        rate: float,
    ) -> None:
        self.rng, self.module, self.code, self.others, self.rate = (
            rng,
            module,
            code,
            list(others),
            rate,
        )
        self.made = Made(name)
        self.values: dict[str, Value] = {}
        self.versions: dict[str, int] = {}

    def make(self, size: int, *, is_first: bool) -> Made:
        made, rng = self.made, self.rng
        for number in range(size):
            self._stage(is_last=number == size - 1, may_stream=is_first)
        made.args = {
            "graph": [stage.declared for stage in made.stages],
            "batching": {
                "max_batch_size": rng.choice((1, 3, 8)),
                "batch_wait_timeout_s": rng.choice((0, 0.001)),
                "max_padding": rng.choice((0, 0.25, 0.9)),
                "run_cost": rng.choice((0, 8, 100)),
                **({"max_batch_cost": rng.choice((1, 10, 40))} if rng.random() < 0.3 else {}),
            },
            "resources": {"num_cpus": rng.choice((1, 2, 3))},
            "limits": {"max_rows": 1024 if is_first else rng.choice((7, 64, 1024))},
        }
        return made

    def _key(self, name: str) -> tuple[str, int]:
        return name, self.versions.get(name, 0)

    def _seen(self, name: str, each: str | None, when: When | None) -> tuple[str, bool]:
        """The kind of a value as a stage sees it, and whether a row may be without."""
        value = self.values[name]
        if each == name:
            own = self._seen(name, None, None)[0]
            return element(own) or own, False
        is_missing = value.when is not None and value.when != when
        if value.over is None or (each is not None and value.over == self._key(each)):
            return value.kind + (" | None" if value.is_nullable else ""), is_missing
        return (
            f"list[{value.kind} | None]" if value.when is not None else f"list[{value.kind}]"
        ), False

    def _stage(self, *, is_last: bool, may_stream: bool) -> None:
        rng, made = self.rng, self.made
        stage: dict[str, Any] = {"stage": f"s{len(made.stages)}"}
        streams = is_last and may_stream and rng.random() < 0.2
        each = None if streams or (is_last and not may_stream) else self._each()
        when = None if streams else self._when(each)
        callee = (
            rng.choice(self.others) if self.others and not streams and rng.random() < 0.4 else None
        )
        forms = (
            ("stream", "async stream")
            if streams
            else ("plain", "plain", "class", "async", "async", "rows")
        )
        form = "function" if callee is not None else rng.choice(forms)
        model, sure = None, None if is_last else when  # which may be taken back
        if callee is None and not streams and (may_stream or not is_last):
            model = self._fitting_model(each, sure)
        if model is not None:
            form = "model"
        gives = (
            dict(callee.answer)
            if callee is not None
            else dict(MODELS[model].gives)
            if model is not None
            else self._kinds(is_simple=is_last and not may_stream)
        )
        names = self._name(gives, each, when)
        if is_last and when is not None and not set(names.values()) <= set(self.values):
            when = None  # its rows would have no answer
        if each is not None:
            stage["each"] = each
        if when is not None:
            stage["when"] = when[0]
        stage["outputs"] = {own or stage["stage"]: name for own, name in names.items()}
        if callee is not None:
            takes = self._call(callee, each, when, stage)
        elif model is not None:
            takes = self._run_model(model, each, sure, stage)
        else:
            takes = self._takes(each, when, stage, has_defaults=form != "rows")
            self._write(takes, gives, form, stage)
        made.stages.append(Stage(stage, takes, names, form, tuple(gives.values())))
        given = {name: self._given(name, gives[own], each, when) for own, name in names.items()}
        self.values.update(given)
        for name in given:
            self.versions[name] = self.versions.get(name, 0) + 1
        if is_last:
            made.answer = {name: self._seen(name, None, None)[0] for name in given}

    def _fitting(self, kind: str, each: str | None, when: When | None) -> list[str]:
        """Values of a kind that are there for every row of a stage."""
        return [
            name
            for name in self.values
            if not self._is_elsewhere(name) and self._seen(name, each, when) == (kind, False)
        ]

    def _fitting_model(self, each: str | None, when: When | None) -> str | None:
        """A model whose inputs there are, for some of the stages."""
        if self.rng.random() > 0.45:
            return None
        fitting = [
            name
            for name, model in MODELS.items()
            if all(self._fitting(kind, each, when) for kind in model.takes.values())
        ]
        return self.rng.choice(fitting) if fitting else None

    def _run_model(
        self, name: str, each: str | None, when: When | None, stage: dict[str, Any]
    ) -> list[Take]:
        """What a model takes, of earlier values; not every input that can be padded is."""
        rng, model = self.rng, MODELS[name]
        stage["onnx"] = f"{name}.onnx"
        stage.update(model.declared)
        if "pad" in stage:
            padded = dict(stage["pad"])
            if rng.random() < 0.3:
                del padded[next(iter(padded))]
            stage["pad"] = padded
        takes = [
            Take(port, rng.choice(self._fitting(kind, each, when)), kind)
            for port, kind in model.takes.items()
        ]
        stage["inputs"] = {take.name: take.source for take in takes}
        return takes

    def _each(self) -> str | None:
        """A list to run over: often the one of the stage before."""
        rng = self.rng
        before = self.made.stages[-1].declared.get("each") if self.made.stages else None
        lists = [name for name in self.values if self._is_list(name)]
        if not lists or rng.random() < 0.55:
            return None
        return before if before in lists and rng.random() < 0.7 else rng.choice(lists)

    def _is_list(self, name: str) -> bool:
        kind, is_missing = self._seen(name, None, None)
        return element(kind) is not None and not is_missing and not self._is_elsewhere(name)

    def _is_elsewhere(self, name: str) -> bool:
        """A field that may be left out, of which only the function that takes it knows the default."""
        made = self.made
        return (
            name in made.fields
            and not self.versions.get(name)
            and made.defaults.get(name, "") is None
        )

    def _when(self, each: str | None) -> When | None:
        rng = self.rng
        conditions = []
        for name in self.values if rng.random() < 0.4 else ():
            kind, is_missing = self._seen(name, each, None)
            if (
                kind in ("bool", "Letter", "int")
                and not is_missing
                and not self._is_elsewhere(name)
            ):
                conditions.append((name, kind))
        if not conditions:
            return None
        name, kind = rng.choice(conditions)
        before = self.made.stages[-1].declared.get("when") if self.made.stages else None
        if (
            isinstance(before, str)
            and rng.random() < 0.5
            and (before.removeprefix("not "), "bool") in conditions
        ):
            return before, *self._key(before.removeprefix("not "))
        written = {
            "bool": rng.choice((name, f"not {name}")),
            "Letter": {name: rng.choice(("a", ["a", "b"], ["c"]))},
            "int": {name: list(range(1, 97, 2))},
        }[kind]
        return written, *self._key(name)

    def _takes(
        self, each: str | None, when: When | None, stage: dict[str, Any], *, has_defaults: bool
    ) -> list[Take]:
        """Parameters of earlier values and of new fields."""
        rng, takes, inputs = self.rng, [], {}
        names = [name for name in self.values if not self._is_elsewhere(name)]
        chosen = rng.sample(names, min(len(names), rng.randint(1, 3)))
        if each is not None and each not in chosen:
            chosen.append(each)
        for name in chosen:
            kind, is_missing = self._seen(name, each, when)
            default = None
            if is_missing and has_defaults and kind in DEFAULTS and rng.random() < 0.4:
                default = DEFAULTS[kind]
            elif is_missing and not kind.endswith("| None"):
                kind = f"{kind} | None"
            parameter = name
            if rng.random() < 0.2:
                parameter = f"p{len(inputs)}"
                inputs[parameter] = name
            takes.append(Take(parameter, name, kind, default))
        while not takes or rng.random() < (0.15 if self.values else 0.6):
            name = self._field(rng.choice(OFTEN), may_default=has_defaults)
            if self.made.stages:
                inputs[name] = name
            takes.append(
                Take(name, name, self._seen(name, None, None)[0], self.made.defaults.get(name))
            )
        if inputs:
            stage["inputs"] = inputs
        return sorted(takes, key=lambda take: take.default is not None)

    def _field(self, kind: str, *, may_default: bool) -> str:
        """A new one."""
        made, name = self.made, f"q{len(self.made.fields)}"
        made.fields[name] = kind
        is_nullable = False
        if may_default and self.rng.random() < 0.3 and kind in DEFAULTS:
            is_nullable = self.rng.random() < 0.3
            made.defaults[name] = "None" if is_nullable else DEFAULTS[kind]
        self.values[name] = Value(kind, is_nullable=is_nullable)
        return name

    def _call(
        self, other: Made, each: str | None, when: When | None, stage: dict[str, Any]
    ) -> list[Take]:
        """What another function takes, of earlier values of its kinds, or of new fields."""
        rng, takes, inputs, earlier = self.rng, [], {}, list(self.values)
        stage["function"] = other.name
        for name, kind in other.fields.items():
            has_default = name in other.defaults
            fitting = []
            for value in earlier:
                seen, is_missing = self._seen(value, each, when)
                if (
                    seen == kind
                    and (has_default or not is_missing)
                    and (has_default or not self._is_elsewhere(value))
                ):
                    fitting.append(value)
            if fitting and rng.random() < 0.8:
                source = rng.choice(fitting)
            else:
                source = f"q{len(self.made.fields)}"
                self.made.fields[source] = kind
                self.values[source] = Value(kind)
                if has_default:
                    is_known = kind not in ("Numbers", *OBJECTS)
                    self.made.defaults[source] = other.defaults[name] if is_known else None
                    self.values[source] = Value(kind, is_nullable=other.defaults[name] == "None")
            inputs[name] = source
            takes.append(Take(name, source, kind))
        stage["inputs"] = inputs
        return takes

    def _kinds(self, *, is_simple: bool) -> dict[str, str]:
        rng = self.rng
        kinds = SIMPLE if is_simple else OFTEN
        if rng.random() < 0.4:
            return {"": rng.choice(kinds)}
        return {f"k{index}": rng.choice(kinds) for index in range(rng.randint(1, 3))}

    def _name(self, gives: dict[str, str], each: str | None, when: When | None) -> dict[str, str]:
        """Names of the values it gives: new ones, or again those of earlier ones where that can be
        right.
        """
        names: dict[str, str] = {}
        for own, kind in gives.items():
            taken = set(names.values())
            again = [
                name
                for name in self.values
                if name not in taken and name != each and self._may_give(name, kind, each, when)
            ]
            if when is not None and when[1] in again and self.rng.random() < 0.5:
                names[own] = when[1]  # a stage that gives its own condition again
            else:
                names[own] = (
                    self.rng.choice(again)
                    if again and self.rng.random() < 0.4
                    else f"v{len(self.values)}_{len(taken)}"
                )
        return names

    def _may_give(self, name: str, kind: str, each: str | None, when: When | None) -> bool:
        if when is None:
            return True
        before, over = self.values[name], None if each is None else self._key(each)
        is_alike = (
            before.kind == kind
            and before.over == over
            and not before.is_nullable
            and not self._is_elsewhere(name)
        )
        return is_alike and (before.when is None or _are_complements(before.when, when))

    def _given(self, name: str, kind: str, each: str | None, when: When | None) -> Value:
        over = None if each is None else self._key(each)
        if when is None or name in self.values:  # for all rows, or for those that were without
            return Value(kind, over)
        return Value(kind, over, when)

    def _write(
        self, takes: list[Take], gives: dict[str, str], form: str, stage: dict[str, Any]
    ) -> None:
        """The code of a stage: what it computes, and that in the form that its graph calls."""
        own = f"{self.made.name}_{stage['stage']}"
        stage["python"] = f"{self.module}:{own}"
        parameters = [take.name for take in takes]
        salt = self.rng.randrange(1000)
        if form == "class":
            stage["with"] = {"salt": salt}
        makers = {**MAKERS, **(NUMPY if self.rng.random() < 0.3 else {})}
        if self.rng.random() < 0.2:
            makers["list[int]"] = "kept(x)"
        self.code.append(
            "\n".join(self._core(own, parameters, gives, salt, makers, streams="stream" in form))
        )
        signature = ", ".join(
            f"{take.name}: {take.kind}" + (f" = {take.default}" if take.default is not None else "")
            for take in takes
        )
        returns = gives.get("", f"{own}_gives")
        keys = [f"    {key}: {kind}" for key, kind in gives.items()]
        passed = ", ".join(parameters)
        if form == "rows":
            signature = ", ".join(f"{take.name}: Rows[{take.kind}]" for take in takes)
            by_columns = "" not in gives and self.rng.random() < 0.5
            if by_columns:
                keys = [f"    {key}: Rows[{kind}]" for key, kind in gives.items()]
            else:
                returns = f"Rows[{returns}]"
            rows = f"    rows = [{own}_core(*row) for row in zip({passed}, strict=True)]\n"
            end = (
                f"    return {{key: [row[key] for row in rows] for key in {list(gives)}}}"
                if by_columns
                else "    return rows"
            )
            body = f"def {own}({signature}) -> {returns}:\n{rows}{end}"
        else:
            call = f"{own}_core({passed})"
            body = {
                "plain": f"def {own}({signature}) -> {returns}:\n    return {call}",
                "class": f"class {own}:\n    def __init__(self, salt: int) -> None:\n        self.salt = salt\n\n"
                f"    def __call__(self, {signature}) -> {returns}:\n        return {own}_core({passed}, salt=self.salt)",
                "async": f"async def {own}({signature}) -> {returns}:\n    await rest(mix({passed}))\n    return {call}",
                "stream": f"def {own}({signature}) -> Iterator[{returns}]:\n    yield from {call}",
                "async stream": f"async def {own}({signature}) -> AsyncIterator[{returns}]:\n    for item in {call}:\n"
                "        await rest(mix(item))\n        yield item",
            }[form]
        if "" not in gives:
            self.code.append("\n".join((f"class {own}_gives(TypedDict):", *keys)))
        self.code.append(body)

    def _core(
        self,
        own: str,
        parameters: list[str],
        gives: dict[str, str],
        salt: int,
        makers: dict[str, str],
        *,
        streams: bool,
    ) -> Iterator[str]:
        yield f"def {own}_core({', '.join((*parameters, f'salt={salt}'))}):"
        yield f"    h = mix({', '.join((repr(own), 'salt', *parameters))})"
        yield f"    spoil({', '.join(parameters)})"
        yield "    nap(h)"
        indent = "    "
        if streams:
            yield "    for i in range(h % 11):"
            yield "        x = h = mix(h, i)"
            indent = "        "
        yield f"{indent}trouble(h, {self.rate})"
        made = [(key, makers[kind]) for key, kind in gives.items()]
        for number, (_, maker) in enumerate(made):
            yield f"{indent}x = mix(h, {number})"
            yield f"{indent}y{number} = {maker}"
        value = (
            "y0"
            if "" in gives
            else "{"
            + ", ".join(f"{key!r}: y{number}" for number, (key, _) in enumerate(made))
            + "}"
        )
        yield f"{indent}{'yield' if streams else 'return'} {value}"


def _are_complements(one: When, other: When) -> bool:
    """Of one bool as it was at one time."""
    return (
        one[1:] == other[1:]
        and one[1] in (one[0], other[0])
        and f"not {one[1]}" in (one[0], other[0])
    )
