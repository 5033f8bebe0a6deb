"""Reads in a model's graph where it computes across the rows of a run.

``find_mixing`` follows the rows axis from the inputs, operator by operator (``rules``), and
reports each one that works along it and whose result an answer needs: a mean over the first axis, a
softmax along it, one scale for a whole batch. What depends on no row's values (weights, shapes,
positions) is not reported, and neither is what is used for its shape alone.

It is a reason to look closer, and no proof. Where the axis is lost (an operator without a rule, a
reshape by computed sizes) nothing is reported but what covers all axes; and what is reported may be
undone by what follows. Trying the model decides (``execution.verification``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.onnx.model_file import read_bytes
from runtime.onnx.model_graph import ModelGraph, ModelNode, read_graph
from runtime.onnx.rows.known_tensor import LOST, PLAIN, Tensor, describe_constant
from runtime.onnx.rows.rules import COUNTING, SHAPE_ALONE, apply_rule, is_elementwise


@dataclass(frozen=True, slots=True)
class Mixing:
    """An operator that computes across rows.

    Attributes:
        operator: its type.
        node: its name, or that of what it gives.
    """

    operator: str
    node: str

    def __str__(self) -> str:
        return f"{self.operator.rpartition('.')[2]} {self.node!r}"


def find_mixing(
    graph: ModelGraph, ranks: Mapping[str, int], outputs: Collection[str] | None = None
) -> list[Mixing]:
    """The operators that compute across rows and that an output needs, in the graph's order.

    Args:
        graph: a model whose inputs and outputs have the rows as their first axis.
        ranks: number of axes of its inputs.
        outputs: those that are asked for; None: all.
    """
    known = {name: Tensor(0, ranks.get(name)) for name in graph.inputs}
    walk = _Walk(graph.opset)
    walk.follow(graph, known, graph.outputs if outputs is None else outputs)
    return walk.mixing


def find_bare_squeeze(path: Path) -> str:
    """The node of a model that takes every axis of size 1 from an answer, that of the rows of a run
    of one row with them (torch's ``squeeze()``); empty where there is none.

    Raises:
        LoadError: the file is no ONNX model.
    """
    if b"Squeeze" not in read_bytes(path):  # most models; the nodes of some take 0.1 s to read
        return ""
    graph = read_graph(path)
    makers = {name: node for node in graph.nodes for name in node.outputs}
    for name in graph.outputs:
        node, seen = makers.get(name), set[str]()
        # no runtime has looked at it yet: it may have no inputs, or a circle
        while node is not None and is_elementwise(node.operator) and node.inputs:
            if (name := node.inputs[0]) in seen:
                break
            seen.add(name)
            node = makers.get(name)
        if node is None or node.operator != "Squeeze":
            continue
        if not node.lists and not any(node.inputs[1:]):
            return node.name or node.outputs[0]
    return ""


class _Walk:
    """Follows the rows through a graph; ``mixing`` grows with what it finds."""

    def __init__(self, opset: int) -> None:
        self.mixing: list[Mixing] = []
        self._opset = opset

    def follow(self, graph: ModelGraph, known: dict[str, Tensor], outputs: Collection[str]) -> None:
        """Fills ``known`` with what the nodes of a graph give."""
        needed = _needed_values(graph, outputs)
        known.update(
            {name: describe_constant(constant) for name, constant in graph.constants.items()}
        )
        for node in graph.nodes:
            given = [known.get(name, PLAIN) for name in node.inputs]
            if node.graphs:
                gives, mixes = self._follow_inner(node, given, known)
            else:
                gives, mixes = apply_rule(node, given, self._opset)
            for place, name in enumerate(node.outputs):
                known[name] = gives[min(place, len(gives) - 1)]
            if mixes and not needed.isdisjoint(node.outputs):
                self.mixing.append(Mixing(node.operator, node.name or node.outputs[0]))

    def _follow_inner(
        self, node: ModelNode, given: list[Tensor], known: Mapping[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], bool]:
        """What a node with graphs of its own gives. The branches of an ``If`` see the tensors
        around them. The body of a loop sees slices of them, or what it gave the last time: it is
        not followed, and a loop whose turns depend on rows counts for all.
        """
        uses = given + [known[name] for name in _captured(node) if name in known]
        has_rows = any(tensor.has_rows for tensor in uses)
        if node.operator != "If":
            is_steered = node.operator == "Loop" and any(one.has_rows for one in given[:2])
            return (LOST if has_rows else PLAIN,), is_steered
        branches: list[list[Tensor]] = []
        for inner in node.graphs.values():
            values = dict(known)
            self.follow(inner, values, inner.outputs)
            branches.append([values.get(name, PLAIN) for name in inner.outputs])
        outputs = [
            ways[0] if len(set(ways)) == 1 else LOST if has_rows else PLAIN
            for ways in zip(*branches, strict=False)
        ]
        return tuple(outputs or (LOST,)), given[0].has_rows


def _needed_values(graph: ModelGraph, outputs: Collection[str]) -> set[str]:
    """Tensors whose values, not their shapes alone, some outputs need. The shape of what was
    counted is a value.
    """
    needed, shaped = set(outputs), set[str]()
    for node in reversed(graph.nodes):
        if node.operator in COUNTING and not shaped.isdisjoint(node.outputs):
            needed.update(node.outputs)
        if not needed.isdisjoint(node.outputs):
            (shaped if node.operator in SHAPE_ALONE else needed).update(node.inputs)
            needed.update(_captured(node))
        elif not shaped.isdisjoint(node.outputs) and node.operator not in ("Shape", "Size"):
            shaped.update(node.inputs)
    return needed


def _captured(node: ModelNode) -> Iterator[str]:
    """Names that the graphs within a node use."""
    for graph in node.graphs.values():
        yield from graph.outputs
        for inner in graph.nodes:
            yield from inner.inputs
            yield from _captured(inner)
