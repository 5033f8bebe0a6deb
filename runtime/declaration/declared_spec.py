"""A function as a user declares it: everything under ``args`` of its application, with its name and
prefix. What commands add to it is another type (``function_spec``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, get_args

from pydantic import Field, model_validator

from runtime.declaration.constrained_types import (
    FunctionPrefix,
    MediaRange,
    ModelName,
    Name,
    TaskName,
)
from runtime.declaration.sections import (
    AutoscalingSpec,
    BatchingSpec,
    CaptureSpec,
    LimitsSpec,
    ResourcesSpec,
    SequencesSpec,
    SloSpec,
)
from runtime.declaration.stage_spec import StageSpec
from runtime.declaration.validation import JsonObject, KeyPath, StrictModel, validation_error

DEPLOYED: Final = "deployed"
"""The key in ``args`` of what commands add; no file has it."""


class FunctionArgs(StrictModel):
    """The keys under ``args``. Instead of ``graph``, a bare model may be written as ``onnx`` (and
    ``sha256``, ``weights``).
    """

    SHORT_KEYS: ClassVar[tuple[str, ...]] = ("onnx", "sha256", "weights")
    """Keys that are short for a graph of one stage, ``model``."""

    COMMAND_KEYS: ClassVar[Mapping[str, str]] = {
        "deployed": (
            "What `wakeful export serve` has written is for `serve deploy`; Wakeful takes the file"
            " that it was made from."
        ),
        "calls": "A stage calls another function by `function: NAME`.",
        "part_of": "A stage gets a deployment of its own by `deployment: {}`.",
        "secrets": 'A stage gets a secret by `with: {KEY: "${NAME}"}`.',
        "made_of": "",
    }
    """Keys that commands write, or wrote once, and no file has; by key what may have been meant."""

    description: str = Field(
        "",
        description=(
            "What the function does, for readers of the catalogue. Empty: the name says it."
        ),
    )
    graph: tuple[StageSpec, ...] = Field(
        (),
        strict=False,
        description=(
            "The stages, in the order of the flow: one at least. A bare model has `onnx: PATH` (and"
            " `sha256:`) instead; its stage is `model`. A model by name has `model`."
        ),
    )
    task: TaskName | None = Field(
        None,
        description=(
            "What the function does, by the name that model hubs have for it: it then takes and"
            " gives what [the task says](models.md), which is checked. Unset: it promises nothing."
        ),
    )
    model: ModelName | None = Field(
        None,
        description=(
            "A whole model by its name instead of `graph`: `hf:ORG/REPO@COMMIT`, which `wakeful"
            " add` writes, or a folder with an ONNX file and the model's configuration. With"
            " `task`; [the stages](models.md) are made of both."
        ),
    )
    quantize: Literal["int8"] | None = Field(
        None,
        description=(
            "`int8`: the model's float32 products in int8, rounded row by row, if its answers stay"
            " close to the float model's, which `wakeful models pull` measures. Unset: as it is."
        ),
    )
    accepts: tuple[MediaRange, ...] = Field(
        (),
        strict=False,
        description=(
            "Content types whose body is the function's one required field, of type `bytes`, as it"
            " is: `image/png`, `audio/*`, or `*/*` for all but JSON and forms in parts. JSON, forms"
            " and lines of JSON are taken in any case. Unset: these alone."
        ),
    )
    batching: BatchingSpec = Field(
        BatchingSpec(),
        description="Which rows share a run of the models, or a call of a stage that takes `Rows`.",
    )
    resources: ResourcesSpec = Field(
        ResourcesSpec(), description="What a replica takes of its machine."
    )
    autoscaling: AutoscalingSpec = Field(
        AutoscalingSpec(), description="How many replicas there are."
    )
    limits: LimitsSpec = Field(
        LimitsSpec(), description="What is refused at once instead of answered late."
    )
    tier: Literal["auto", "own"] = Field(
        "auto",
        description=(
            "`auto`: in the shared host while rare, a deployment of its own while busy, which costs"
            " least. `own`: always its own."
        ),
    )
    slo: SloSpec = Field(SloSpec(), description="What the function promises.")
    capture: CaptureSpec = Field(
        CaptureSpec(), description="Which calls are recorded, to be replayed."
    )
    sequences: SequencesSpec | None = Field(
        None,
        description=(
            "Calls that belong together. Needed where a stage takes a `State`, and refused"
            " elsewhere; `{}` is the defaults."
        ),
    )
    example: JsonObject | None = Field(
        None,
        description=(
            "One request, as a caller sends it: run at warm-up, shown in the catalogue. What stands"
            " in a file is `!file sample.png`, in the place of any value. Unset: models warm up on"
            " made-up tensors, and the first answer of a function with other stages is not tried"
            " before its first call."
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, data: Any) -> Any:
        """Replace ``onnx: path`` by its graph."""
        if not isinstance(data, Mapping) or not any(key in data for key in cls.SHORT_KEYS):
            return data
        short = [key for key in cls.SHORT_KEYS if key in data]
        if "graph" in data:
            raise validation_error(
                f"`{short[0]}` and `graph` both stand here. Write the model as a stage of the"
                " graph.",
                (short[0],),
            )
        rest = {key: value for key, value in data.items() if key not in short}
        return {**rest, "graph": [{"stage": "model", **{key: data[key] for key in short}}]}

    @staticmethod
    def path_as_written(path: KeyPath, data: Any) -> KeyPath:
        """The path of a key of the graph in args that were written as ``onnx: path``."""
        return path[2:] if path[:2] == ("graph", 0) and "graph" not in data else path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        size, ongoing = self.batching.max_batch_size, self.limits.max_ongoing_requests
        if size > ongoing:
            at, other = ("batching", "max_batch_size"), ("limits", "max_ongoing_requests")
            if "max_batch_size" not in self.batching.model_fields_set:
                at, other = other, at
            reason = f"{ongoing} requests of a row each never fill a batch of {size}"
            raise validation_error(
                f"`max_batch_size` above `max_ongoing_requests`: {reason}. Lower the one or raise"
                " the other.",
                at,
                also=[other],
            )
        self._check_model()
        if not self.graph and self.model is None:
            raise validation_error(
                "neither `graph` nor `onnx` nor `model` stands here. A function has at least one"
                " stage.",
                also=[("graph",), ("onnx",), ("model",)],
            )
        first: dict[str, int] = {}
        for index, stage in enumerate(self.graph):
            if stage.stage in first:
                message = (
                    f"{stage.stage!r} is also the name of graph[{first[stage.stage]}]. Give each"
                    " stage a name of its own."
                )
                raise validation_error(message, ("graph", index, "stage"))
            first[stage.stage] = index
        return self

    def _check_model(self) -> None:
        """A model by name stands for the whole graph."""
        if self.model is None:
            if self.quantize is not None:
                raise validation_error(
                    "`quantize` is about a model by name, and no `model` stands here. Delete it.",
                    ("quantize",),
                    also=[("model",)],
                )
            return
        if self.graph:
            raise validation_error(
                "`model` stands for a whole graph, and `graph` or `onnx` stands here too. Delete"
                " one of the two; `wakeful explain` shows the stages of `model`, to be copied.",
                ("model",),
            )
        if self.task is None:
            tasks = ", ".join(get_args(TaskName))
            raise validation_error(
                f"`model` needs `task`, one of {tasks}: it says which stages the model has.",
                ("model",),
                also=[("task",)],
            )


class DeclaredSpec(FunctionArgs):
    """A function of a file: its name, where it is called, and its ``args``."""

    ADDED_KEYS: ClassVar[tuple[str, ...]] = ()
    """Keys beside those of ``FunctionArgs`` that ``args`` may have."""

    name: Name = Field(
        description="The function's name, unique in the file: letters, digits, `.`, `_`, `-`."
    )
    route_prefix: FunctionPrefix = Field(
        description="Where it is called, unique in the file; `/v2/models/NAME` by convention."
    )

    @property
    def is_tried(self) -> bool:
        """Whether an answer is computed before the function is ready: to the example, or, where
        all stages are models, to made-up values.
        """
        return self.example is not None or all(stage.onnx is not None for stage in self.graph)

    @classmethod
    def from_checked(cls, name: str, route_prefix: str, args: FunctionArgs) -> DeclaredSpec:
        """A function of arguments, a name and a prefix that have been checked."""
        values = {key: getattr(args, key) for key in FunctionArgs.model_fields}
        return DeclaredSpec.model_construct(
            _fields_set={*args.model_fields_set, "name", "route_prefix"},
            name=name,
            route_prefix=route_prefix,
            **values,
        )

    @classmethod
    def from_args(cls, name: str, route_prefix: str, args: Mapping[str, Any]) -> Self:
        """The function that an application's ``args`` declare.

        Raises:
            pydantic.ValidationError: an unknown key, a wrong value, or values that exclude each
                other.
        """
        declared = {key: value for key, value in args.items() if key not in cls.ADDED_KEYS}
        # so that a name among the args is an unknown key
        FunctionArgs.model_validate(declared, by_alias=True, by_name=False)
        return cls.model_validate(
            {**args, "name": name, "route_prefix": route_prefix}, by_alias=True, by_name=False
        )

    def to_args(self) -> dict[str, Any]:
        """The ``args`` that declare this function, with every default; plain JSON data."""
        return self.model_dump(
            mode="json", by_alias=True, exclude={"name", "route_prefix"}, exclude_none=True
        )


AnySpec = TypeVar("AnySpec", bound=DeclaredSpec)
"""A function as declared or as deployed: what is given is given back."""
