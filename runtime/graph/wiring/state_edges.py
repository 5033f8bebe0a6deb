"""The edges from one call of a sequence to the next: states, which one stage takes and one gives
anew.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from runtime.types.value_types import ValueType, incompatibility


class StateEdges:
    """What the calls of a sequence pass on: which stage takes each state, and whether one gives it
    again.

    A parameter ``x: State[T]`` takes what the previous call stored as ``x``. The value that this
    call stores is the last one named ``x`` that this stage or a later one gives. Until a stage
    gives it, no other stage sees it; it is not part of the answer.

    Mutable state: ``_takers``, by the state's name: the stage's index and name, and the type that
    it takes.
    """

    def __init__(self) -> None:
        self._takers: dict[str, tuple[int, str, ValueType]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The states that stages take, in the order of their first takers."""
        return tuple(self._takers)

    def add_taker(
        self,
        index: int,
        stage: str,
        name: str,
        type_: ValueType,
        *,
        known: Container[str],
        each: str | None,
    ) -> Iterator[str]:
        """Note that a stage takes a state; yields what is wrong with that.

        Args:
            known: values that earlier stages give, and fields that they take.
            each: the value that the stage runs over.
        """
        if name in self._takers:
            other = self._takers[name][1]
            yield (
                f"the state {name!r} is taken by stage {other!r} already; take it here as an"
                " ordinary value, once it is given anew."
            )
            return
        if name in known:
            yield (
                f"the state {name!r} is what the call before left, and an earlier stage gives or"
                " takes a value of that name. Rename one."
            )
        if each is not None:
            yield (
                f"the state {name!r} is the row's, and the stage runs once for each element. Take"
                " it in a stage without 'each'."
            )
        self._takers[name] = index, stage, type_

    def find_issues(
        self, given: Mapping[str, ValueType], fields: Container[str]
    ) -> Iterator[tuple[int, str]]:
        """What is wrong once all stages are known: the index of a stage, and a message.

        Args:
            given: each value, as the last stage of its name gives it.
            fields: that the request carries.
        """
        for name, (index, stage, wanted) in self._takers.items():
            if name in fields:
                yield (
                    index,
                    (
                        f"another stage takes {name!r} before one gives it anew. Give it first, or"
                        " take something else there."
                    ),
                )
            elif name not in given:
                yield (
                    index,
                    (
                        f"nothing gives the state {name!r} anew: return it from {stage!r} under"
                        " that name, or name a later stage's value so ('outputs')."
                    ),
                )
            elif given[name].may_lack:
                yield (
                    index,
                    (
                        f"the state {name!r} is NotRequired where it is given anew, and every call"
                        " leaves one. Give None instead."
                    ),
                )
            elif reason := incompatibility(given[name], wanted):
                yield index, f"the state {name!r} does not come back as it is taken: {reason}."
