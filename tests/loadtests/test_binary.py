"""Sample requests as they go over the wire."""

from __future__ import annotations

import json
import struct

import numpy as np

from loadtests import binary, samples


def test_a_binary_request_is_a_json_header_and_length_prefixed_texts() -> None:
    """The header says where it ends and how many bytes follow, as the binary tensor extension has it."""
    request = binary.embed([0, 1])
    length = int(request.headers["Inference-Header-Content-Length"])
    header, rest = json.loads(request.body[:length]), request.body[length:]
    assert header["inputs"] == [{"name": "text", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(rest)}}]
    assert rest == b"".join(struct.pack("<I", len(text)) + text.encode() for text in samples.TEXTS[:2])


def test_a_binary_answer_gives_back_its_tensor() -> None:
    """The tensors asked for, as far as the answer holds them."""
    tensor = np.arange(6, dtype=np.float32).reshape(2, 3)
    output = {"name": "embedding", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
    header = json.dumps({"model_name": "embed", "outputs": [output]}).encode()
    found = binary.decode(header + tensor.tobytes(), len(header), ("embedding", "other"))
    assert list(found) == ["embedding"]
    assert np.array_equal(found["embedding"], tensor)
