"""What a function keeps between the calls of a sequence, as its graph has it: who takes it, and who gives it anew.

A parameter ``x: State[T]`` takes what the call before left as ``x``. The last value of the name ``x`` that this stage or a later one gives
is what this call leaves. Until one gives it, nobody else sees it; in the answer it is not.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from runtime.values import ValueType, misfit


class Kept:
    """What the stages so far take. Mutable state: ``_takers``, by the value's name: the stage's index and name, and the type wanted."""

    def __init__(self) -> None:
        self._takers: dict[str, tuple[int, str, ValueType]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the values that are kept."""
        return tuple(self._takers)

    def take(self, index: int, stage: str, name: str, type_: ValueType, *, known: Container[str], each: str | None) -> Iterator[str]:
        """A stage takes it: what is wrong with that.

        Args:
            known: values that earlier stages gave, and fields that they take.
            each: the value that the stage runs over.
        """
        if name in self._takers:
            by = self._takers[name][1]
            yield f"the state {name!r} is taken by stage {by!r} already; take it here as an ordinary value, once it is given anew."
            return
        if name in known:
            yield f"the state {name!r} is what the call before left, and an earlier stage gives or takes a value of that name. Rename one."
        if each is not None:
            yield f"the state {name!r} is the row's, and the stage runs once for each element. Take it in a stage without 'each'."
        self._takers[name] = index, stage, type_

    def faults(self, given: Mapping[str, ValueType], fields: Container[str]) -> Iterator[tuple[int, str]]:
        """What is wrong once all stages are known: the index of a stage, and why.

        Args:
            given: each value, as the last stage that gives it does.
            fields: that the request carries.
        """
        for name, (index, stage, wanted) in self._takers.items():
            if name in fields:
                yield index, f"another stage takes {name!r} before one gives it anew. Give it first, or take something else there."
            elif name not in given:
                how = f"return it from {stage!r} under that name, or name a later stage's value so ('outputs')"
                yield index, f"nothing gives the state {name!r} anew: {how}."
            elif why := misfit(given[name], wanted):
                yield index, f"the state {name!r} does not come back as it is taken: {why}."
