"""What a model of Triton's is here: decides, from its ``config.pbtxt`` and its model file, what
stands in the declaration, what of it is done otherwise, and what cannot be served. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from runtime.declaration.sections import LimitsSpec
from runtime.onnx.model_info import ModelInfo

ONNX_FILE: Final = "model.onnx"

SEQUENCES: Final = (
    "it keeps state between calls (sequence_batching), which Triton puts into the model's inputs;"
    " here a stage does (docs/sequences.md)"
)

LEFT: Final[Mapping[str, str]] = {
    "batch_output": "no such outputs here",
    "cc_model_filenames": "one file a model; another processor's is a function of its own",
    "metric_tags": "metrics have the function's name",
    "model_warmup": "each model is tried before its function is ready; `example:` says with what",
    "model_operations": "no libraries of operators are loaded",
    "model_repository_agents": "models.lock and sha256 say what a file must be",
    "response_cache": "no answers are kept",
    "model_metrics": "buckets of histograms are those of /metrics",
    "runtime": "",
}
"""Why a part of a configuration is not taken; empty: it says nothing that is missed."""

THREADS: Final = "a worker has one thread; resources.num_cpus is how many there are"

PARAMETERS_LEFT: Final[Mapping[str, str]] = {
    "intra_op_thread_count": THREADS,
    "inter_op_thread_count": THREADS,
    "enable_mem_arena": "memory is given back when a function sleeps",
    "enable_mem_pattern": "ONNX Runtime's own default",
}

Args = dict[str, Any]


@dataclass
class Translation:
    """What becomes of a model.

    Attributes:
        args: of the function; empty where there is none.
        took, left: what was taken of the configuration and what was not, in words.
        refusal: why there is no function; empty where there is one.
    """

    args: Args = field(default_factory=dict)
    took: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    refusal: str = ""


def backend_of(config: Mapping[str, Any]) -> str:
    """``onnxruntime``, ``ensemble`` or what else runs the model; empty: it does not say, which is
    ONNX Runtime where there is such a file.
    """
    if "ensemble_scheduling" in config or config.get("platform") == "ensemble":
        return "ensemble"
    platform = config.get("platform", "")
    named = {"onnxruntime_onnx": "onnxruntime"}.get(platform, platform)
    return str(config.get("backend") or named)


def choose_version(config: Mapping[str, Any], there: Sequence[int]) -> int | None:
    """The version of a model that is served: the highest that its policy has.

    Args:
        there: the folders that there are; without one there is no such version.
    """
    wanted = config.get("version_policy", {}).get("specific", {}).get("versions")
    return max((one for one in there if wanted is None or one in wanted), default=None)


def translate_model(
    config: Mapping[str, Any], onnx: str, info: ModelInfo, *, gpu_share: float
) -> Translation:
    """The function of an ONNX model.

    Args:
        onnx: its path, as the declaration has it.
        info: what the file itself takes and gives.
        gpu_share: of a device, for a model that runs on one.
    """
    if "sequence_batching" in config:
        return Translation(refusal=SEQUENCES)
    if "batch_input" in config:
        return Translation(refusal="it takes inputs that Triton makes of a batch (batch_input)")
    if ragged := _names(config, "input", "allow_ragged_batch"):
        return Translation(
            refusal=f"{', '.join(ragged)}: rows of a batch lie end to end (allow_ragged_batch)"
        )
    if why := tensor_refusal(config, info):
        return Translation(refusal=why)
    found = Translation()
    stage: Args = {"stage": "model", "onnx": onnx}
    size = config.get("max_batch_size", 0)
    if info.batchable and "max_batch_size" in config and not size:
        stage["rows"] = False
        found.took.append("max_batch_size: 0 (rows: false, a call is a run of its own)")
    if set(stage) == {"stage", "onnx"}:
        found.args["onnx"] = onnx
    else:
        found.args["graph"] = [stage]
    _take_batching(config, found, is_batchable=info.batchable)
    _take_instances(config, found, gpu_share)
    _take_options(config, found)
    _leave_rest(config, found)
    return found


def _names(config: Mapping[str, Any], key: str, having: str) -> list[str]:
    """The names of the inputs or outputs that have something."""
    return [one.get("name", "") for one in config.get(key, ()) if one.get(having)]


def tensor_refusal(config: Mapping[str, Any], info: ModelInfo) -> str:
    """Why a file is not the model of a configuration: a tensor of another name or datatype, or one
    that Triton reshapes. Its shapes are the file's.
    """
    for key, tensors in (("input", info.inputs), ("output", info.outputs)):
        by_name = {tensor.name: tensor for tensor in tensors}
        for one in config.get(key, ()):
            name = one.get("name", "")
            if name not in by_name:
                return f"{key} {name!r} is not in the file, which has {', '.join(by_name)}"
            wanted = one.get("data_type", "TYPE_INVALID").removeprefix("TYPE_")
            wanted = {"STRING": "BYTES"}.get(wanted, wanted)
            if wanted not in ("INVALID", by_name[name].datatype):
                return f"{key} {name!r} is {by_name[name].datatype} in the file, not {wanted}"
            if one.get("reshape", {}).get("shape"):
                return f"{key} {name!r} has another shape for callers (reshape)"
    return ""


def _take_batching(config: Mapping[str, Any], found: Translation, *, is_batchable: bool) -> None:
    size, dynamic = config.get("max_batch_size", 0), config.get("dynamic_batching")
    batching: Args = {}
    limits: Args = {}
    if size and not is_batchable:
        found.left.append(f"max_batch_size: {size} (the file has no free first axis)")
    elif size:
        batching["max_batch_size"] = size
        found.took.append(f"max_batch_size: {size}")
        if size > LimitsSpec().max_ongoing_requests:
            limits["max_ongoing_requests"] = size
        if dynamic is None:
            found.left.append("no dynamic_batching (rows of all callers share batches anyway)")
    dynamic = dynamic or {}
    if (delay := dynamic.get("max_queue_delay_microseconds")) and is_batchable:
        batching["batch_wait_timeout_s"] = min(60.0, delay / 1e6)
        found.took.append(f"max_queue_delay_microseconds: {delay}")
    policy = dynamic.get("default_queue_policy", {})
    if most := policy.get("max_queue_size"):
        limits["max_queued_requests"] = most
        found.took.append(f"max_queue_size: {most}")
    if (timeout := policy.get("default_timeout_microseconds")) and policy.get(
        "timeout_action", "REJECT"
    ) == "REJECT":
        limits["request_timeout_s"] = min(3600.0, timeout / 1e6)
        found.took.append(f"default_timeout_microseconds: {timeout}")
    reasons = {
        "preferred_batch_size": "a batch leaves as soon as a worker is free",
        "preserve_ordering": "each call is answered when it is done",
        "priority_levels": "calls have no priorities; deadlines order them",
        "priority_queue_policy": "calls have no priorities",
    }
    found.left += [f"{key} ({why})" for key, why in reasons.items() if dynamic.get(key)]
    for key, section in (("batching", batching), ("limits", limits)):
        if section:
            found.args[key] = section


def _take_instances(config: Mapping[str, Any], found: Translation, gpu_share: float) -> None:
    groups = config.get("instance_group", ())
    if not groups:
        return
    count = sum(group.get("count") or 1 for group in groups if not group.get("passive"))
    is_gpu = any(group.get("kind") == "KIND_GPU" or group.get("gpus") for group in groups)
    resources: Args = {"num_cpus": max(1, count)}
    if is_gpu:
        resources["num_gpus"] = gpu_share
    if is_gpu or count > 1:
        found.args["resources"] = resources
    share = f" and {gpu_share:g} of a GPU" if is_gpu else ""
    found.took.append(f"instance_group: {count} (workers{share})")
    if any(group.get("gpus") for group in groups):
        found.left.append("gpus (which device it is, the cluster decides)")
    reasons = {
        "rate_limiter": "limits.max_ongoing_requests bounds a replica",
        "profile": "TensorRT's",
        "secondary_devices": "one device a replica",
        "host_policy": "the system places threads",
    }
    found.left += [
        f"{key} ({why})" for key, why in reasons.items() if any(group.get(key) for group in groups)
    ]


def _take_options(config: Mapping[str, Any], found: Translation) -> None:
    optimization = config.get("optimization", {})
    accelerators = optimization.get("execution_accelerators", {})
    resources = found.args.get("resources", {})
    names = [
        one.get("name", "")
        for key in ("gpu_execution_accelerator", "cpu_execution_accelerator")
        for one in accelerators.get(key, ())
    ]
    for name in names:
        can_run = name == "openvino" or (name == "tensorrt" and "num_gpus" in resources)
        if can_run and "device" not in resources:
            resources["device"] = name
            found.args["resources"] = resources
            found.took.append(f"execution accelerator: {name}")
        else:
            found.left.append(f"execution accelerator {name} (not one of resources.device here)")
    if "graph" in optimization:
        found.left.append("optimization.graph (models are optimised when they are prepared)")
    found.left += [
        f"optimization.{key} (ONNX Runtime's own default)"
        for key in optimization
        if key not in ("graph", "execution_accelerators")
    ]
    for one in config.get("parameters", ()):
        key, value = one.get("key", ""), one.get("value", {}).get("string_value", "")
        if key == "gpu_mem_limit" and value.isdecimal() and "num_gpus" in resources:
            resources["gpu_memory_mb"] = max(1, int(value) // 1_000_000)
            found.took.append(f"parameters.gpu_mem_limit: {value}")
        else:
            why = PARAMETERS_LEFT.get(key, "no option of a session is declared")
            found.left.append(f"parameters.{key} ({why})")


def _leave_rest(config: Mapping[str, Any], found: Translation) -> None:
    found.left += [f"{key} ({why})" for key, why in LEFT.items() if key in config and why]
    if labels := _names(config, "output", "label_filename"):
        found.left.append(
            f"label_filename of {', '.join(labels)} (a stage behind the model names classes)"
        )


def translate_ensemble(
    config: Mapping[str, Any], models: Mapping[str, Args], refusals: Mapping[str, str]
) -> Translation:
    """The function of an ensemble: its steps are stages of one graph.

    Args:
        models: by name, the stage of each ONNX model of the repository that is served.
        refusals: by name, why another is not.
    """
    steps = config.get("ensemble_scheduling", {}).get("step", ())
    if not steps:
        return Translation(refusal="an ensemble without a step")
    for step in steps:
        if (name := step.get("model_name", "")) not in models:
            why = refusals.get(name, "it is not in the repository")
            return Translation(refusal=f"its step {name} cannot be served: {why}")
    known = {one.get("name", "") for one in config.get("input", ())}
    pending, graph, last = list(steps), list[Args](), dict[str, str]()
    while pending:
        step = next((one for one in pending if _values(one, "input_map") <= known), None)
        if step is None:
            lacking = sorted(set.union(*(_values(one, "input_map") for one in pending)) - known)
            return Translation(refusal=f"nothing gives its tensors {', '.join(lacking)}")
        pending.remove(step)
        last = {pair.get("key", ""): pair.get("value", "") for pair in step.get("output_map", ())}
        known |= set(last.values())
        graph.append(_stage_of(step, models[step.get("model_name", "")], len(graph)))
    outputs = [one.get("name", "") for one in config.get("output", ())]
    if strangers := [name for name in outputs if name not in last.values()]:
        return Translation(
            refusal=f"its outputs {', '.join(strangers)} are not of its last step; write the graph"
            " with a stage behind it that passes them on"
        )
    found = Translation(args={"graph": graph})
    found.took.append(f"ensemble_scheduling: {len(graph)} steps, as stages of one graph")
    _take_batching(config, found, is_batchable=True)
    _leave_rest(config, found)
    return found


def _values(step: Mapping[str, Any], key: str) -> set[str]:
    return {pair.get("value", "") for pair in step.get(key, ())}


def _stage_of(step: Mapping[str, Any], model: Args, index: int) -> Args:
    name = re.sub(r"\W", "_", step.get("model_name", ""), flags=re.ASCII)
    stage = {**model, "stage": f"{'' if name[:1].isalpha() else 's'}{name}_{index + 1}"}
    for key, given in (("inputs", "input_map"), ("outputs", "output_map")):
        pairs = {pair.get("key", ""): pair.get("value", "") for pair in step.get(given, ())}
        if changed := {one: value for one, value in pairs.items() if one != value}:
            stage[key] = changed
    return stage
