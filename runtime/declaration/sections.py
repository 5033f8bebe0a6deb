"""The sections of a function's declaration, a model each."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from runtime.declaration.constrained_types import AwakeText, Provider
from runtime.declaration.validation import StrictModel, validation_error


class BatchingSpec(StrictModel):
    """Which rows share a run of the models, or a call of a stage that takes ``Rows``."""

    max_batch_size: int = Field(
        32,
        ge=1,
        description=(
            "Rows in a run of a model, or in a call of a stage that takes `Rows`. 32: with it the"
            " embedding model reached 0.81 of the bare machine's rate."
        ),
    )
    batch_wait_timeout_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description=(
            "Longest wait of the oldest row for batch-mates. 0: a batch leaves once a worker is"
            " free; it fills while all are busy."
        ),
    )
    run_cost: int = Field(
        8,
        ge=0,
        description=(
            "Elements (tokens) that cost as much as starting a run of the model; a row that adds"
            " more padding waits for a run of its own. Of inputs in `pad`. 8: what an int8 MiniLM"
            " was measured at."
        ),
    )
    max_padding: float = Field(
        0.25,
        ge=0,
        le=1,
        description=(
            "Share of a batch that may be padding, of inputs in `pad`. 0.25: rows of like length go"
            " together; mixed lengths were four times slower."
        ),
    )
    max_batch_cost: int | None = Field(
        None,
        ge=1,
        description=(
            "Elements of the largest ragged input in a batch, padding included; one row always"
            " runs. Unset: only rows count."
        ),
    )


class ResourcesSpec(StrictModel):
    """What a replica takes of its machine."""

    num_cpus: float = Field(
        1.0,
        ge=0,
        description=(
            "CPUs of a busy replica, and its one-thread workers (rounded down, at least 1). 1:"
            " scale by replicas."
        ),
    )
    num_gpus: float = Field(
        0.0,
        ge=0,
        description=(
            "GPUs: whole, or a fraction below 1, such as 0.25 for four replicas on one. 0: most"
            " functions need none."
        ),
    )
    gpu_memory_mb: int | None = Field(
        None,
        ge=1,
        description=(
            "Megabytes that a replica takes of its GPU, the CUDA context included. `up` refuses"
            " what its share does not hold, and models get no more. Unset: they get the share, and"
            " `up` goes by what the probe measured, where this machine has a GPU."
        ),
    )
    device: Literal["auto", "cpu", "cuda", "tensorrt", "openvino"] = Field(
        "auto",
        description=(
            "What models run on. `auto`: CUDA with `num_gpus`, the CPU without; if CUDA does not"
            " run, the CPU does, and `status` says so. Any other runs or is refused with what is"
            " missing."
        ),
    )
    memory_mb: int | None = Field(
        None,
        ge=1,
        description=(
            "Megabytes that Ray reserves for a replica. Unset: memory is not a reason to place it"
            " elsewhere."
        ),
    )
    providers: tuple[Provider, ...] | None = Field(
        None,
        strict=False,
        description=(
            "ONNX Runtime's execution providers, first choice first; the first runs or is refused."
            " Unset: those of `device`."
        ),
    )

    @model_validator(mode="after")
    def _can_be_placed(self) -> Self:
        if self.providers == ():
            raise validation_error(
                "no provider is named. Name one, or delete the key.", ("providers",)
            )
        if self.providers and self.device != "auto":
            raise validation_error(
                "`device` and `providers` both say what models run on. Delete one.",
                ("providers",),
                also=[("device",)],
            )
        if not self.num_gpus:
            self._takes_no_gpu()
        elif self.device == "cpu":
            raise validation_error(
                "`num_gpus` reserves a GPU that `device: cpu` does not use. Delete one.",
                ("num_gpus",),
            )
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise validation_error(
                f"{self.num_gpus} is neither a fraction below 1 nor whole; Ray cannot place it.",
                ("num_gpus",),
            )
        return self

    @property
    def is_cpu_only(self) -> bool:
        """Whether models are declared to run on CPUs alone, and no other device is visible."""
        if self.providers is not None:
            return self.providers[0].startswith("CPU")
        return self.device == "cpu" or (self.device == "auto" and not self.num_gpus)

    def _takes_no_gpu(self) -> None:
        wanted = (
            self.device
            if self.device in ("cuda", "tensorrt")
            else next(iter(set(self.providers or ()) & set(NVIDIA)), "")
        )
        if wanted:
            key = "providers" if self.providers else "device"
            advice = (
                "Without `num_gpus` Ray gives no GPU, and a function on CPUs never touches one. Add"
                " its share: `num_gpus: 1`, or less."
            )
            raise validation_error(f"{wanted} runs on a GPU. {advice}", (key,))
        if self.gpu_memory_mb is not None:
            raise validation_error(
                "memory of a GPU is declared, and no GPU: add `num_gpus`, the share that holds it.",
                ("gpu_memory_mb",),
            )


def worker_count(num_cpus: float) -> int:
    """One-thread workers that a replica of that many declared CPUs runs."""
    return max(1, math.floor(num_cpus))


NVIDIA: Final = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
"""Execution providers that take a GPU of those that Ray counts."""


class AutoscalingSpec(StrictModel):
    """How many replicas there are, once a function has a deployment of its own."""

    min_replicas: int = Field(
        0,
        ge=0,
        description=(
            "Replicas kept without traffic. 0: a function sleeps; 1 or more gives it a deployment"
            " of its own."
        ),
    )
    initial_replicas: int | None = Field(
        None, ge=0, description="Replicas at the start. Unset: `min_replicas`."
    )
    max_replicas: int = Field(
        1, ge=1, description="Most replicas. 1: more cost more, so they are declared."
    )
    target_ongoing_requests: float | None = Field(
        None,
        gt=0,
        description=(
            "Requests in a replica that scaling aims at. Unset: what it answers in half of"
            " `slo.latency_p95_ms`, or in a quarter of a second, by the measured time of a row."
        ),
    )
    upscale_delay_s: float = Field(
        0.0,
        ge=0,
        description=(
            "How long more replicas must be wanted before they start. 0: a queue is waiting"
            " callers."
        ),
    )
    downscale_delay_s: float = Field(
        60.0,
        ge=0,
        description=(
            "How long fewer must be enough before one stops. 60: a minute's lull costs no new"
            " start."
        ),
    )
    downscale_to_zero_delay_s: float = Field(
        60.0,
        ge=0,
        description=(
            "How long without a request before the last replica stops. 60, for the same reason."
        ),
    )
    awake: AwakeText | None = Field(
        None,
        description=(
            "Hours within which it does not sleep, with or without requests: `Mon-Fri 08:00-18:00"
            " Europe/Vienna`, several separated by commas. Unset: it sleeps whenever it is idle."
        ),
    )

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> Self:
        least, most, first = self.min_replicas, self.max_replicas, self.initial_replicas
        if least > most:
            at, other = ("min_replicas",), ("max_replicas",)
            if "min_replicas" not in self.model_fields_set:
                at, other = other, at
            raise validation_error(
                f"min_replicas {least} is above max_replicas {most}. Lower the one or raise the"
                " other.",
                at,
                also=[other],
            )
        if first is not None and not least <= first <= most:
            message = (
                f"initial_replicas {first} is not between min_replicas {least} and max_replicas"
                f" {most}."
            )
            raise validation_error(
                message, ("initial_replicas",), also=[("min_replicas",), ("max_replicas",)]
            )
        return self


MAX_TIMEOUT_S: Final = 3600.0
"""The longest deadline of a request. An update, a machine that leaves and HAProxy wait for the
longest deadline before they end something, so it must be bounded.
"""


class LimitsSpec(StrictModel):
    """What is refused at once instead of answered late."""

    request_timeout_s: float = Field(
        30.0,
        gt=0,
        le=MAX_TIMEOUT_S,
        description=(
            "Deadline of a request that brings none, an hour at most. 30: after that most clients"
            " have disconnected."
        ),
    )
    item_timeout_s: float | None = Field(
        None,
        gt=0,
        le=MAX_TIMEOUT_S,
        description=(
            "Longest wait for the next item of an answer that streams. Unset: `request_timeout_s`,"
            " which bounds the whole of it, is the only limit."
        ),
    )
    max_ongoing_requests: int = Field(
        128,
        ge=1,
        description=(
            "Requests in a replica at once. 128: four full batches of 32, so that workers never"
            " wait."
        ),
    )
    max_queued_requests: int = Field(
        256,
        ge=1,
        description=(
            "Requests that wait for a replica; more are 429. 256: twice those at work; a longer"
            " queue is late answers."
        ),
    )
    max_rows: int = Field(
        1024,
        ge=1,
        description=(
            "Rows in a request; more are 413. 1024: 32 full batches, so that one caller cannot take"
            " the queue."
        ),
    )
    max_body_bytes: int = Field(
        64 << 20,
        ge=1,
        description="Bytes of a request's body; more are 413. 64 MiB, Triton's limit.",
    )
    max_ongoing_bytes: int | None = Field(
        None,
        ge=1,
        description=(
            "Bytes of bodies in a replica at once, being read, waiting and at work, of what JSON of"
            " 256 KiB or more becomes in memory, and of what stages make of them (`reserve`; values"
            " of 64 KiB or more that later stages or the answer want); more are 429, but for a body"
            " that is the only one, and for the only row of which something is made; one call's"
            " JSON that becomes more is 413. Unset: four times `max_body_bytes`, as the rows in"
            " flight are to `max_rows`, and 256 MiB at least."
        ),
    )
    replay: bool = Field(
        True,
        description=(
            "Whether a call whose process died with it is sent again, to another. true: inference"
            " is pure. false, for stages that pay, write or send: such a call is 503, it may have"
            " been computed, and the function has a deployment of its own."
        ),
    )
    max_fan_out: int = Field(
        1024,
        ge=1,
        description=(
            "Elements that a row's `each` may have; a row with more fails. 1024, as many as a"
            " request may have rows."
        ),
    )


class SequencesSpec(StrictModel):
    """Calls that belong together, and what is kept between them: for functions whose stages take a
    ``State``.
    """

    max_sequences: int = Field(
        256,
        ge=1,
        description=(
            "Sequences that a process keeps; a start beyond them is 429. 256: none is dropped to"
            " make room for another."
        ),
    )
    idle_timeout_s: float = Field(
        60.0,
        gt=0,
        le=86400,
        description=(
            "How long without a call before a sequence is forgotten. 60: a client that pauses"
            " longer starts again."
        ),
    )


class SloSpec(StrictModel):
    """What the function promises: `wakeful loadtest` judges it, and scaling goes by
    `latency_p95_ms`.
    """

    latency_p50_ms: float | None = Field(
        None,
        gt=0,
        description=(
            "Milliseconds within which half of the calls get a right answer. Unset: nothing is"
            " promised."
        ),
    )
    latency_p95_ms: float | None = Field(
        None, gt=0, description="As `latency_p50_ms`, for 95 of 100 calls."
    )
    latency_p99_ms: float | None = Field(
        None, gt=0, description="As `latency_p50_ms`, for 99 of 100 calls."
    )
    success: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Share of calls that get a right answer, at least: `0.999` is all but one of 1,000."
            " Unset: nothing is promised."
        ),
    )
    warm: float | None = Field(
        None,
        gt=0,
        le=1,
        description=(
            "Share of calls that find the function loaded, at least. Unset: nothing is promised."
        ),
    )

    @model_validator(mode="after")
    def _percentiles_are_in_order(self) -> Self:
        given = [
            (key, value)
            for key in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
            if (value := getattr(self, key)) is not None
        ]
        for (key, less), (other, more) in pairwise(given):
            if less > more:
                raise validation_error(
                    f"{key} {less:g} is above {other} {more:g}, and a higher percentile is never"
                    " shorter. Lower the one or raise the other.",
                    (key,),
                    also=[(other,)],
                )
        return self


MAX_CAPTURED: Final = 1_000_000
"""Calls that a capture keeps at most; its reader holds all of them in memory."""

MAX_CAPTURE_AGE_S: Final = 365 * 86400.0
"""How long they may be kept."""


class CaptureSpec(StrictModel):
    """Calls of clients that are recorded, to be replayed ([capture](capture.md)); `wakeful capture`
    begins and ends it while the function is served.
    """

    rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description=(
            "Share of the calls that is recorded, from 0 to 1; of a function with sequences, share"
            " of the sequences. 0: nothing is, but for the time of a `wakeful capture`."
        ),
    )
    keep: int = Field(
        10_000,
        ge=4,
        le=MAX_CAPTURED,
        description=(
            "Calls that are kept at most, the latest, and three quarters of them at least. 10000:"
            " enough for a percentile of 99.9 with its interval."
        ),
    )
    keep_mb: int = Field(
        100,
        ge=4,
        le=1024,
        description="Megabytes that they take at most, likewise. 100: 10 KB for each of 10,000.",
    )
    keep_s: float = Field(
        7 * 86400.0,
        ge=60,
        le=MAX_CAPTURE_AGE_S,
        description=(
            "How old one gets before it is deleted, a year at most. 604800: a week has each hour of"
            " each day once."
        ),
    )
    omit: tuple[str, ...] = Field(
        (),
        strict=False,
        description=(
            "Fields of the request or of the answer that are never recorded. Where they cannot be"
            " taken out of a body, the body is not recorded. Unset: all are."
        ),
    )
    answer: Literal["digest", "full"] = Field(
        "digest",
        description=(
            "What is recorded of an answer: its SHA-256, or all of it. `digest`: a replay sees"
            " whether an answer is the same, and nothing of it lies on the disk."
        ),
    )

    @model_validator(mode="after")
    def _names_each_field_once(self) -> Self:
        for index, name in enumerate(self.omit):
            if name in self.omit[:index]:
                raise validation_error(f"{name!r} stands here twice. Delete one.", ("omit", index))
        return self
