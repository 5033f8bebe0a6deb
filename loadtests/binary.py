"""Sample requests as binary tensors of the Open Inference Protocol, built and read by tritonclient: a codec that is not ours.

See *Binary Tensor Data Extension*: a JSON header, then the tensors, ``Inference-Header-Content-Length`` telling them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray

from loadtests.samples import EMBED, FORECAST, ITEMS, TEXTS

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class BinaryRequest:
    """What to post, and which outputs the answer has to hold.

    Attributes:
        body: header and tensors.
        headers: with the length of the header in ``body``.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]
    outputs: tuple[str, ...]


def encode(path: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> BinaryRequest:
    """The request for some outputs, all of them wanted in binary."""
    tensors = []
    for name, array in inputs.items():
        tensor = triton.InferInput(name, list(array.shape), triton.np_to_triton_dtype(array.dtype))
        tensor.set_data_from_numpy(array, binary_data=True)
        tensors.append(tensor)
    wanted = [triton.InferRequestedOutput(name, binary_data=True) for name in outputs]
    body, header_length = triton.InferenceServerClient.generate_request_body(tensors, outputs=wanted)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(header_length)}
    return BinaryRequest(f"{path}/infer", bytes(body), headers, outputs)


def decode(body: bytes, header_length: int, outputs: Sequence[str]) -> dict[str, Array]:
    """The tensors of an answer by name, those it does not hold left out; a header length of 0 says that all of it is JSON."""
    answer = triton.InferenceServerClient.parse_response_body(body, header_length=header_length or None)
    found = {name: answer.as_numpy(name) for name in outputs}
    return {name: array for name, array in found.items() if array is not None}


def embed(indices: Sequence[int]) -> BinaryRequest:
    """Several texts as one BYTES tensor ``text`` [rows]."""
    texts = np.array([TEXTS[index % len(TEXTS)].encode() for index in indices], dtype=np.object_)
    return encode(EMBED, {"text": texts}, ("embedding",))


def forecast(index: int) -> BinaryRequest:
    """One item: ``daily_sales`` FP64 [1, days], the others [1]; numbers and text come back."""
    item = ITEMS[index % len(ITEMS)]
    inputs: dict[str, Array] = {
        "daily_sales": np.array([item.daily_sales], np.float64),
        "stock_on_hand": np.array([item.stock_on_hand], np.float64),
        "lead_time_days": np.array([item.lead_time_days], np.int64),
        "service_level": np.array([item.service_level], np.float64),
    }
    return encode(FORECAST, inputs, ("daily_demand", "expected_demand", "safety_stock", "reorder_quantity", "reasoning"))
