"""Models that follow each other on one device: which run on the same batch without a pause, and which outputs stay there in between."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.branch import Condition
from runtime.stages import ModelStage


class Chained:
    """What must be known of a stage in its place.

    Attributes:
        takes: names of the values it takes.
        gives: names of the values it gives.
        asks: names of values that decide which rows it is for (``each``, ``when``).
        model: the stage, if it is a model.
    """

    def __init__(
        self, takes: Sequence[str], gives: Sequence[str], each: str | None, when: Condition | None, model: ModelStage | None
    ) -> None:
        self.takes = frozenset(takes)
        self.gives = tuple(gives)
        self.asks = frozenset(name for name in (each, when and when.value) if name)
        self.rows = (each, when)
        self.model = model


def follows(before: Chained, one: Chained) -> bool:
    """Whether a model goes on with the batch of the model before it: both on the same device, for the same rows, and it takes what that
    gives. A batch gathered anew would have to be fetched to memory and brought back."""
    if before.model is None or one.model is None or before.rows != one.rows or not one.takes & set(before.gives):
        return False
    return before.model.keeps_on is not None and before.model.keeps_on == one.model.keeps_on


def keep(stages: Sequence[Chained]) -> None:
    """Tells each model which of its values stay on the device: those that only models of its own chain take, and nobody else gives."""
    for index, one in enumerate(stages):
        chain = _chain(stages, index)
        if one.model is None or not chain:
            continue
        others = [other for other in stages if other is not one]
        strange = {name for other in others for name in (*other.gives, *other.asks)}
        strange |= {name for other in others if other not in chain for name in other.takes}
        taken = {name for other in chain for name in other.takes}
        one.model.keep = frozenset(name for name in one.gives if name in taken - one.takes - strange)


def _chain(stages: Sequence[Chained], index: int) -> list[Chained]:
    """The models that go on with the batch of one."""
    chain = []
    while index + 1 < len(stages) and follows(stages[index], stages[index + 1]):
        index += 1
        chain.append(stages[index])
    return chain
