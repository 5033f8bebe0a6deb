"""How ONNX's operators move the rows axis of a run, and which of them compute across it.

``apply_rule`` takes an operator and what is known of its inputs, and says what is known of its
outputs and whether it works along the rows axis. A table of pure functions; an operator that has no
entry loses the axis.

Source: *ONNX Operators* (axes, defaults by version).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from runtime.onnx.model_graph import ModelNode
from runtime.onnx.rows.known_tensor import (
    LOST,
    PLAIN,
    Result,
    Rule,
    Tensor,
    axes_of,
    describe_plain,
    describe_shape,
    meet,
    without,
)
from runtime.onnx.rows.layout_rules import (
    concat_rule,
    expand_rule,
    flatten_rule,
    gather_elements_rule,
    gather_places_rule,
    gather_rule,
    one_hot_rule,
    reshape_rule,
    reverse_rule,
    scatter_places_rule,
    slice_rule,
    squeeze_rule,
    transpose_rule,
    unsqueeze_rule,
)


def apply_rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """What an operator does.

    Args:
        given: its inputs; ``PLAIN`` where one is left out.
        opset: version of ONNX's operators.
    """
    if node.operator in SHAPE_ALONE:
        return (describe_shape(node, given[0] if given else PLAIN),), False
    if not any(tensor.has_rows for tensor in given):
        return (describe_plain(node, given),), False
    rule = RULES.get(node.operator)
    if rule is None:
        return (LOST,), False
    outputs, mixes = rule(node, given, opset)
    # a number of rows that meets their values
    return outputs, mixes or (
        rule is _broadcast and any(tensor.is_count and not tensor.has_rows for tensor in given)
    )


SHAPE_ALONE: Final = frozenset({"Shape", "Size", "RandomNormalLike", "RandomUniformLike"})
"""Operators that use the shape of what they take, and no value."""


def _same(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """Of one tensor, element by element, or along axes that are never the first."""
    return (replace(given[0], values=None),), False


def is_elementwise(operator: str) -> bool:
    """Whether an operator keeps the axes of the one tensor that it takes."""
    return RULES.get(operator) is _same


def _broadcast(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return meet(given)


def _spatial(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """Convolutions, pools and the like, whose first axis is that of rows by definition."""
    data = given[0]
    if any(tensor.has_rows for tensor in given[1:]):
        return (LOST,), data.axis is not None or any(tensor.axis == 0 for tensor in given[1:])
    return (replace(data, values=None),), (data.axis or 0) > 0


def _along(default: int) -> Rule:
    """One attribute ``axis``, along which the numbers of a tensor meet."""

    def rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
        data = given[0]
        mixes = data.is_along([node.numbers.get("axis", default)])
        return tuple(replace(data, values=None) for _ in node.outputs), mixes

    return rule


def _from(axis: int) -> Rule:
    """All axes from one on."""

    def rule(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
        data = given[0]
        start = data.normal(node.numbers.get("axis", axis))
        mixes = start is not None and data.axis is not None and data.axis >= start
        return (replace(data, values=None), LOST), mixes

    return rule


def _softmax(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """Along one axis; before version 13, over all from that on."""
    return (_along(-1) if opset >= 13 else _from(1))(node, given, opset)


def _reduce(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    data, axes = given[0], axes_of(node, given, 1)
    if axes is None:
        return (LOST,), False
    if not axes:
        if node.numbers.get("noop_with_empty_axes"):
            return (data,), False
        return (LOST,), True
    return without(data, axes, keep=bool(node.numbers.get("keepdims", 1)))


def _arg(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    axis = node.numbers.get("axis", 0)
    return without(given[0], (axis,), keep=bool(node.numbers.get("keepdims", 1)))


def _cumulate(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return (given[0],), given[0].is_along(given[1].values or ())


def _mean_variance(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return (given[0],), given[0].is_along(node.lists.get("axes", (0, 2, 3)))


def _batch_norm(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    is_training = node.numbers.get("training_mode", 0) or (
        opset < 14 and sum(map(bool, node.outputs)) > 1
    )
    (data,), mixes = _spatial(node, given[:1], opset)
    return (data, LOST), bool(is_training) or mixes


def _quantise(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    return (given[0], LOST), True


def _mixes(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """What it gives depends on all rows together: counts, places, orders."""
    return (LOST,), True


def _matmul(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """``[..., m, k] x [..., k, n]``: rows may be m, or one of the axes before."""
    left, right = given[0], given[1]
    ends = [
        (tensor.rank - tensor.axis)
        if tensor.axis is not None and tensor.axis >= 0 and tensor.rank is not None
        else None
        for tensor in (left, right)
    ]
    if not right.has_rows:
        if ends[0] is None:
            return (Tensor(left.axis) if left.axis == 0 and left.rank != 1 else LOST,), False
        if ends[0] == 1:
            return (LOST,), True
        rank = max(left.rank or 0, right.rank or 0)
        return (Tensor(rank - ends[0], rank),), False
    if not left.has_rows:
        if ends[1] is None:
            return (LOST,), False
        if ends[1] == 2 or right.rank == 1:
            return (LOST,), True
        rank = max(left.rank or 0, right.rank or 0)
        return (Tensor(rank - ends[1], rank) if left.rank is not None else LOST,), False
    if ends[0] is None or ends[1] is None:
        return (Tensor(0) if left.axis == right.axis == 0 else LOST,), False
    if ends[0] != ends[1] or ends[0] < 3:
        return (LOST,), True
    rank = max(left.rank or 0, right.rank or 0)
    return (Tensor(rank - ends[0], rank),), False


def _gemm(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    left, right = given[0], given[1]
    row_axis = 1 if node.numbers.get("transA") else 0
    if right.has_rows:
        return (LOST,), True
    if not left.has_rows:
        return (LOST,), any(tensor.axis == 1 for tensor in given[2:])
    return (Tensor(0, 2),), left.axis != row_axis and left.axis != -1


def _einsum(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    equation = node.texts.get("equation", "").replace(" ", "")
    taken, arrow, given_text = equation.partition("->")
    terms = taken.split(",")
    if not arrow or "." in equation or len(terms) != len(given):
        return (LOST,), False
    letters = set()
    for term, tensor in zip(terms, given, strict=True):
        if tensor.axis is not None:
            if not 0 <= tensor.axis < len(term):
                return (LOST,), False
            letters.add(term[tensor.axis])
    letter = next(iter(letters))
    if len(letters) > 1 or letter not in given_text:
        return (LOST,), True
    return (Tensor(given_text.index(letter), len(given_text)),), False


def _recurrent(node: ModelNode, given: Sequence[Tensor], opset: int) -> Result:
    """``[time, rows, ...]``, or with ``layout: 1`` ``[rows, time, ...]``."""
    is_rows_first = bool(node.numbers.get("layout", 0))
    data = given[0]
    mixes = data.axis is not None and data.axis >= 0 and data.axis != (0 if is_rows_first else 1)
    if is_rows_first:
        return (Tensor(0, 4), Tensor(0, 3)), mixes
    return (Tensor(2, 4), Tensor(1, 3)), mixes


def _table(*names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


COUNTING: Final = ("NonZero", "Compress", "Unique", "NonMaxSuppression")
"""Operators that give as much as the values of all rows say."""


RULES: Final[dict[str, Rule]] = {
    **_table(
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil"),
        *("Celu", "Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"),
        *("HardSwish", "Identity", "IsInf", "IsNaN", "LRN", "LeakyRelu", "Log", "Mish", "Neg"),
        *("Not", "Pad", "Reciprocal", "Relu", "Resize", "Round", "Selu", "Shrink", "Sigmoid"),
        *("Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "Trilu"),
        *("ThresholdedRelu", "Tile", "Upsample"),
        *("Bernoulli", "QuantizeLinear", "com.microsoft.Gelu", "com.microsoft.QuickGelu"),
        *("com.microsoft.FastGelu", "com.microsoft.QuantizeLinear"),
        rule=_same,
    ),
    **_table(
        *("Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Clip", "Div"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod"),
        *("Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor", "DequantizeLinear"),
        *("com.microsoft.BiasGelu", "com.microsoft.DequantizeLinear"),
        rule=_broadcast,
    ),
    **_table(
        *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace"),
        *("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "GroupNormalization"),
        *("InstanceNormalization", "LpPool", "MaxPool", "SpaceToDepth", "QLinearConv"),
        rule=_spatial,
    ),
    **_table(
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
        *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        rule=_reduce,
    ),
    **_table("ArgMax", "ArgMin", rule=_arg),
    **_table("Softmax", "LogSoftmax", "Hardmax", rule=_softmax),
    **_table("LpNormalization", "TopK", rule=_along(-1)),
    **_table("Split", rule=_along(0)),
    **_table(
        *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
        "com.microsoft.SkipLayerNormalization",
        rule=_from(-1),
    ),
    **_table("CumSum", "CumProd", rule=_cumulate),
    **_table("MatMul", "MatMulInteger", "com.microsoft.FusedMatMul", rule=_matmul),
    **_table("GatherElements", "ScatterElements", "Scatter", rule=gather_elements_rule),
    **_table("LSTM", "GRU", "RNN", rule=_recurrent),
    **_table(*COUNTING, rule=_mixes),
    **_table(
        "DynamicQuantizeLinear",
        "com.microsoft.DynamicQuantizeMatMul",
        "com.microsoft.DynamicQuantizeLSTM",
        rule=_quantise,
    ),
    "BatchNormalization": _batch_norm,
    "Concat": concat_rule,
    "Einsum": _einsum,
    "Expand": expand_rule,
    "Flatten": flatten_rule,
    "Gather": gather_rule,
    "GatherND": gather_places_rule,
    "Gemm": _gemm,
    "MeanVarianceNormalization": _mean_variance,
    "OneHot": one_hot_rule,
    "Reshape": reshape_rule,
    "ReverseSequence": reverse_rule,
    "ScatterND": scatter_places_rule,
    "Slice": slice_rule,
    "Squeeze": squeeze_rule,
    "Transpose": transpose_rule,
    "Unsqueeze": unsqueeze_rule,
}
"""By operator, with its domain where that is not ONNX's own."""
