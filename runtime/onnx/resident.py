"""Outputs of a model that stay on its device for the next model: no copy to memory and back between the two.

A batch's output stays whole; each row holds its place in it. If the next model is run on just these rows in their order it takes the
output as it is. On any others, the halves of a batch that failed for instance, it is copied to memory and cut like every output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]


class Kept:
    """One output of one run, on its device.

    Args:
        value: [rows, …].

    Mutable state: ``_copy``, in memory, once somebody asked; two workers may copy it twice.
    """

    def __init__(self, value: ort.OrtValue) -> None:
        self.value = value
        self._copy: Array | None = None

    def __repr__(self) -> str:
        return f"<Kept {self.value.shape()} on {self.value.device_name()}>"

    def __len__(self) -> int:
        rows: int = self.value.shape()[0]
        return rows

    def array(self) -> Array:
        """In memory."""
        if self._copy is None:
            self._copy = self.value.numpy()
        return self._copy

    def rows(self) -> list[Part]:
        """Each row's part."""
        return [Part(self, index) for index in range(len(self))]


@dataclass(frozen=True, slots=True)
class Part:
    """A row of a ``Kept``; only models take one."""

    whole: Kept
    index: int

    def array(self) -> Array:
        """In memory."""
        row: Array = self.whole.array()[self.index]
        return row


def whole(values: Sequence[Any]) -> Kept | None:
    """The output that these rows are, all of it and in its order; None if they are something else."""
    first = values[0]
    if not isinstance(first, Part) or len(first.whole) != len(values):
        return None
    for index, value in enumerate(values):
        if not isinstance(value, Part) or value.whole is not first.whole or value.index != index:
            return None
    return first.whole


def run_bound(
    session: ort.InferenceSession,
    feeds: Mapping[str, Array | Kept],
    names: Sequence[str],
    keep: frozenset[str],
    device: tuple[str, int],
    options: ort.RunOptions | None,
) -> list[Array | Kept]:
    """A run with its inputs and outputs where they are (ONNX Runtime's ``IOBinding``).

    Args:
        names: of all outputs, in order.
        keep: those that stay on ``device``; the others are copied to memory.
    """
    binding = session.io_binding()
    for name, feed in feeds.items():
        if isinstance(feed, Kept):
            binding.bind_ortvalue_input(name, feed.value)
        else:
            binding.bind_cpu_input(name, feed)
    for name in names:
        binding.bind_output(name, *(device if name in keep else ("cpu", 0)))
    session.run_with_iobinding(binding, options)
    binding.synchronize_outputs()  # the next model runs on a stream of its own
    return [Kept(value) if name in keep else value.numpy() for name, value in zip(names, binding.get_outputs(), strict=True)]
