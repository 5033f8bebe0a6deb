"""What a v2 inference request asks and what its response answers, as arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """One output that the caller asked for.

    Attributes:
        name: the output's name.
        binary: whether its data follows the JSON as bytes (``parameters.binary_data``).
    """

    name: str
    binary: bool


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no truth value, so two messages cannot be compared field by field
class InferRequest:
    """A decoded request.

    Attributes:
        id: the caller's id, printable and at most 128 characters; empty when he sent none.
        inputs: arrays by name, in the caller's order. Those from binary data are read-only views of the body where its alignment
            allows. BYTES is an object array of ``str`` (from JSON) or ``bytes`` (from binary data).
        outputs: what to answer with, in this order; empty means every output.
        binary_default: whether outputs are binary that are not named in ``outputs`` (``parameters.binary_data_output``).
        parameters: the request's own parameters: strings, numbers, booleans.
        timeout_s: seconds that the caller waits (``parameters.timeout``, in microseconds as Triton's); infinity when he does not say.
    """

    id: str
    inputs: dict[str, np.ndarray]
    outputs: tuple[RequestedOutput, ...]
    binary_default: bool
    parameters: dict[str, Any]
    timeout_s: float = math.inf


@dataclass(frozen=True, slots=True, eq=False)
class InferResponse:
    """An answer to be encoded.

    Attributes:
        model_name: the function's name.
        id: the request's id; empty leaves it out.
        outputs: arrays by name; BYTES is an object array of ``str`` or ``bytes``.
        parameters: the response's parameters; empty leaves them out.
    """

    model_name: str
    id: str
    outputs: dict[str, np.ndarray]
    parameters: dict[str, Any]
