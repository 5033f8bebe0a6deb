"""A function in the words of Triton's *model configuration extension* (``model_config.proto`` as
JSON), for clients that ask for it before they call: its batches, tensors and instances.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from runtime.declaration.function_spec import FunctionSpec
from runtime.declaration.sections import worker_count
from runtime.types.tensors import TensorSpec

ONNX_PLATFORM: Final = "onnxruntime_onnx"


def model_configuration(
    spec: FunctionSpec,
    platform: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    optional: Collection[str],
    *,
    has_rows: bool,
    streams: bool,
) -> dict[str, Any]:
    """The answer to ``GET /v2/models/NAME/config``.

    Args:
        platform: as in the function's metadata.
        optional: inputs that may be left out.
        has_rows: whether the first axis of every tensor is the rows. It is then in no ``dims``, as
            Triton has it; but where a row of a tensor is a single value, Triton's clients would
            have an axis more than its metadata: such a function has its ``dims`` in full, and no
            ``max_batch_size``.
        streams: whether a call is answered item by item.
    """
    batching, resources = spec.batching, spec.resources
    has_batches = has_rows and all(len(one.shape) > 1 for one in (*inputs, *outputs))
    size = batching.max_batch_size if has_batches else 0
    delay_us = round(batching.batch_wait_timeout_s * 1e6)
    is_model = platform == ONNX_PLATFORM
    return {
        "name": spec.name,
        "platform": platform if is_model else "",
        "backend": "onnxruntime" if is_model else "python",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": size,
        "input": [
            {
                **_tensor(one, has_batches),
                "format": "FORMAT_NONE",
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": one.name in optional,
            }
            for one in inputs
        ],
        "output": [
            {**_tensor(one, has_batches), "label_filename": "", "is_shape_tensor": False}
            for one in outputs
        ],
        "batch_input": [],
        "batch_output": [],
        **(
            {
                "dynamic_batching": {
                    "preferred_batch_size": [size],
                    "max_queue_delay_microseconds": delay_us,
                    "preserve_ordering": False,
                }
            }
            if size
            else {}
        ),
        "instance_group": [
            {
                "name": spec.name,
                "kind": "KIND_GPU" if resources.num_gpus else "KIND_CPU",
                "count": worker_count(resources.num_cpus),
                "gpus": [],
                "profile": [],
                "passive": False,
                "host_policy": "",
            }
        ],
        "default_model_filename": "",
        "parameters": {},
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": streams},
    }


def _tensor(spec: TensorSpec, has_batches: bool) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    dims = list(spec.shape[1:] if has_batches else spec.shape)
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": dims}
