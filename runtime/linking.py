"""Functions that call functions: each is told the face and the declaration of those that its stages call.

What is found out here, with the whole file at hand, travels in the declaration (``calls``): a replica knows no file, and a function
that sleeps cannot be asked without waking it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runtime.assemble import ModelPart, PythonPart, assemble
from runtime.graph import Fault
from runtime.interface import takes_of, words_of
from runtime.settings import Settings
from runtime.spec import CalledSpec, FunctionSpec
from runtime.wording import did_you_mean

ReadModel = Callable[[Path], ModelPart]


def link(
    specs: Sequence[FunctionSpec], settings: Settings, read_model: ReadModel
) -> tuple[tuple[FunctionSpec, ...], list[tuple[str, Fault]]]:
    """Every function with its ``calls``, in the order given, and what is wrong: the function's name and the fault.

    A function that is at fault itself is linked to by nobody; who calls it is told so.
    """
    links = _Links(specs, settings, read_model)
    return tuple(links.linked(spec.name) for spec in specs), links.faults


def callees_of(spec: FunctionSpec) -> list[tuple[int, str]]:
    """The functions that a function's stages call, with the stages' indexes."""
    return [(index, stage.function) for index, stage in enumerate(spec.graph) if stage.function is not None]


class _Links:
    """What has been linked so far. Mutable state: ``_linked``, ``_faces`` and ``faults``, which grow."""

    def __init__(self, specs: Sequence[FunctionSpec], settings: Settings, read_model: ReadModel) -> None:
        self._specs = {spec.name: spec for spec in specs}
        self._settings = settings
        self._read_model = read_model
        self._linked: dict[str, FunctionSpec] = {}
        self._faces: dict[str, CalledSpec | str] = {}
        self.faults: list[tuple[str, Fault]] = []
        for spec in specs:
            self._link(spec, ())

    def linked(self, name: str) -> FunctionSpec:
        return self._linked[name]

    def _link(self, spec: FunctionSpec, path: tuple[str, ...]) -> None:
        if spec.name in self._linked:
            return
        calls: dict[str, CalledSpec] = {}
        for index, name in callees_of(spec):
            trouble = next(self._trouble(name, (*path, spec.name)), "")
            if not trouble:
                self._link(self._specs[name], (*path, spec.name))
                face = self._face(name)
                if isinstance(face, CalledSpec):
                    calls[name] = face
                    continue
                trouble = face
            self.faults.append((spec.name, Fault(index, "function", trouble)))
        written = {"calls": calls, "made_of": {}}  # of which a file says nothing that holds
        self._linked[spec.name] = spec if (calls, {}) == (spec.calls, spec.made_of) else spec.model_copy(update=written)

    def _trouble(self, name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name not in self._specs:
            near = did_you_mean(name, self._specs) or f" (there are: {', '.join(self._specs)})."
            yield f"no function of the file is called {name!r}{near}"
        elif name in path:
            circle = " → ".join((*path[path.index(name) :], name))
            yield f"the functions call each other in a circle: {circle}. Take one of the calls out."

    def _face(self, name: str) -> CalledSpec | str:
        """What others must know of a linked function, or why it cannot be called."""
        if name not in self._faces:
            spec = self._linked[name]
            assembly = assemble(spec, self._settings, self._read_model)
            last = assembly.parts[-1]
            if assembly.graph is None or assembly.faults:
                self._faces[name] = f"the function {name!r} is at fault itself."
            elif isinstance(last, PythonPart) and last.signature.streams:
                self._faces[name] = f"the function {name!r} streams its answer, and a stage takes a whole one. Call it over HTTP."
            elif spec.sequences is not None:
                self._faces[name] = f"the function {name!r} keeps state for the sequences of its callers, and a stage is none of them."
            else:
                fields, answer = assembly.graph.fields, assembly.graph.answer
                self._faces[name] = CalledSpec(
                    route_prefix=spec.route_prefix,
                    args=spec.to_args(),
                    takes=takes_of(fields),
                    gives={value: words_of(type_) for value, type_ in answer.items()},
                )
        return self._faces[name]
