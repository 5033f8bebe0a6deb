"""A case's arrays as the body of a v2 call in binary, and the body of its answer as arrays: by
tritonclient, a codec that is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import tritonclient.http as triton

from tests.conformance.cases import Array


def body_of(inputs: Mapping[str, Array]) -> tuple[bytes, int]:
    """A request for every output in binary, and the length of its JSON part."""
    tensors = []
    for name, array in inputs.items():
        elements = array.astype(object) if array.dtype.kind == "U" else array
        tensor = triton.InferInput(
            name, list(array.shape), triton.np_to_triton_dtype(elements.dtype)
        )
        tensor.set_data_from_numpy(elements, binary_data=True)
        tensors.append(tensor)
    body, length = triton.InferenceServerClient.generate_request_body(tensors, outputs=None)
    return bytes(body), length or len(body)


def arrays_of(body: bytes, length: int | None) -> dict[str, Array]:
    """Every output of an answer by name, in its order; text as ``bytes``."""
    answer = triton.InferenceServerClient.parse_response_body(body, header_length=length)
    names = [output["name"] for output in json.loads(body[:length])["outputs"]]
    return {name: np.asarray(answer.as_numpy(name)) for name in names}
