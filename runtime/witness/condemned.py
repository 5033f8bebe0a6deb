"""Rows that are run alone, or not at all, because a process died while it had them at work.

A row is known by its mark: the fingerprint of its call's body and its index. Of a batch that crashed nobody knows which row did it, so
each is run alone for a while; who crashes alone as well is refused. Who was merely at work in a process that was killed is run alone,
and not refused for it; unless one call had three processes die around it since it arrived: no accident is so constant, but a stage that
ends its process without a word (``os._exit``) is.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from runtime.errors import RowQuarantined
from runtime.witness.lastwords import Death
from runtime.witness.register import KEPT_S, registered

LOOK_S: Final = 1.0
"""How old the knowledge of deaths may be for a call that comes for the first time."""

REPLAYED_S: Final = 0.002
"""A call that is older when it arrives may have been sent to a process that died of it: the death is looked for first."""

REPLAYED_LOOK_S: Final = 0.005
"""Least time between two such looks, for calls get old in a queue too. One asks the system for the lock of each process that lives."""

OUTLIVED: Final = 3
"""With so many processes dead that had a row at work while its caller waited, it is refused, whatever they died of."""

INDEX_BITS: Final = 16
"""Of a mark; the rest is its call's fingerprint."""


class Sentence(NamedTuple):
    """What becomes of a call's rows, by their indexes."""

    alone: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()


FREE: Final = Sentence()
"""Of nearly every call."""


class Condemned:
    """Knows the deaths of the last ten minutes on this machine; for one event loop.

    Args:
        folder: of the witnesses' files.

    Mutable state: ``_deaths`` by key as they were last seen, ``_sentences`` made of them, ``_looked_at``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deaths: dict[str, Death] = {}
        self._sentences: dict[int, Sentence] = {}
        self._looked_at = time.monotonic()
        self.refresh(time.time())

    def __repr__(self) -> str:
        return f"<Condemned: {len(self._sentences)} calls, of {len(self._deaths)} deaths in {self._folder}>"

    def sentence(self, mark: int, age_s: float = 0.0) -> Sentence:
        """What becomes of the call with this fingerprint.

        Args:
            age_s: since the call reached this machine. One that is replayed after a death is older than one that comes by itself.
        """
        now = time.monotonic()
        if now - self._looked_at > (REPLAYED_LOOK_S if age_s > REPLAYED_S else LOOK_S):
            self._looked_at = now
            self.refresh(time.time())
        sentence = self._sentences.get(mark)
        if sentence is None:
            return FREE
        more = outlived(self._deaths.values(), mark, time.time() - age_s)
        return Sentence(sentence.alone - more, sentence.refused | more) if more else sentence

    def refresh(self, now: float) -> None:
        """Looks who has died; ``now`` in seconds since the epoch."""
        with contextlib.suppress(OSError):  # no more files may be opened: what is known still holds
            deaths = registered(self._folder, self._deaths, now)
            if deaths.keys() != self._deaths.keys():
                self._sentences = sentences(deaths.values())
            self._deaths = deaths


def sentences(deaths: Iterable[Death]) -> dict[int, Sentence]:
    """The sentences of all calls that have one, by fingerprint.

    Refused is a row that was culprit twice, in one of these deaths the only one; and one that was culprit three times. Twice in
    company is not enough: what everybody sends may be at work beside two different culprits.
    """
    culprit: Counter[int] = Counter()
    proven: set[int] = set()
    alone: set[int] = set()
    for death in deaths:
        culprit.update(death.culprit_marks)
        alone.update(death.culprit_marks, death.suspect_marks)
        if len(death.culprits) == len(death.culprit_marks) == 1:
            proven.update(death.culprit_marks)
    refused = {mark for mark, times in culprit.items() if times > (1 if mark in proven else 2)}
    return {call: Sentence(_of(call, alone - refused), _of(call, refused)) for call in {mark >> INDEX_BITS for mark in alone}}


def outlived(deaths: Iterable[Death], call: int, since: float) -> frozenset[int]:
    """Rows of a call that were at work in too many processes which died since it arrived, seconds since the epoch."""
    times = Counter(mark for death in deaths if death.at >= since for mark in {*death.culprit_marks, *death.suspect_marks})
    return _of(call, (mark for mark in times if times[mark] >= OUTLIVED))


def refusal(function: str) -> RowQuarantined:
    """What the caller of a refused row is told."""
    return RowQuarantined(
        f"this row brought down the process it ran in, more than once, and is not run again for {KEPT_S / 60:.0f} minutes. "
        f"`wakeful logs {function}` has how it ended; repair the function, or send another row."
    )


def _of(call: int, marks: Iterable[int]) -> frozenset[int]:
    """The indexes of the call's rows among these."""
    return frozenset(mark & ((1 << INDEX_BITS) - 1) for mark in marks if mark >> INDEX_BITS == call)
