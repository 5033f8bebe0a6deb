"""A function's graph as lines of text: its stages in the order of the flow, what each takes and gives, and where each runs.

request  image
├ detect         onnx detect.onnx        image → lines
├ each of lines
│ └ recognise    function ocr.recognise  lines → text
│                0 to 2 replicas of 1 CPU; hop 2.10 ms
└ answer         python apps.ocr:answer  text → lines
answer   lines
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Box:
    """A stage as it is drawn.

    Attributes:
        what: ``python PATH``, ``onnx PATH`` or ``function NAME``.
        takes, gives: names of values.
        each: the value that it runs over; empty for once a row.
        when: which rows it is for, in words; empty for all.
        runs: where, if that is not the function's process.
        hop: what the way there costs, in words.
    """

    stage: str
    what: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    each: str = ""
    when: str = ""
    runs: str = ""
    hop: str = ""

    def words(self) -> dict[str, Any]:
        """As plain data."""
        return {name: list(value) if isinstance(value := getattr(self, name), tuple) else value for name in self.__slots__}


def drawing(fields: Sequence[str], boxes: Sequence[Box], answer: Sequence[str]) -> list[str]:
    """The lines."""
    groups: list[tuple[str, list[Box]]] = []
    for one in boxes:
        if one.each and groups and groups[-1][0] == one.each:
            groups[-1][1].append(one)
        else:
            groups.append((one.each, [one]))
    rows: list[tuple[str, str, Box | None]] = []
    for index, (each, of) in enumerate(groups, 1):
        corner, beside = ("└", " ") if index == len(groups) else ("├", "│")
        if not each:
            rows.append((f"{corner} {of[0].stage}", beside, of[0]))
            continue
        rows.append((f"{corner} each of {each}", beside, None))
        for inner, one in enumerate(of, 1):
            inner_corner, inner_beside = ("└", " ") if inner == len(of) else ("├", "│")
            rows.append((f"{beside} {inner_corner} {one.stage}", f"{beside} {inner_beside}", one))
    left = max(len(name) for name, _, _ in rows) + 2
    middle = max(len(box.what) for _, _, box in rows if box is not None) + 2
    lines = []
    for name, beside, box in rows:
        if box is None:
            lines.append(name)
            continue
        when = f"  when {box.when}" if box.when else ""
        lines.append(f"{name:<{left}}{box.what:<{middle}}{_list(box.takes)} → {_list(box.gives)}{when}")
        if box.runs or box.hop:
            lines.append(f"{beside:<{left}}{'; '.join(filter(None, (box.runs, box.hop)))}")
    return [f"request  {_list(fields)}", *lines, f"answer   {_list(answer)}"]


def hop_words(hops: Mapping[str, float] | None, function: str, url: str) -> str:
    """What the way to a function costs.

    Args:
        hops: milliseconds by function, as measured there; None: nobody answers.
        url: who was asked.
    """
    if hops is None:
        return f"hop not measured: nothing answers at {url}"
    return f"hop {hops[function]:.2f} ms" if function in hops else "hop not measured: no call has gone to another process"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
