"""A model by name made a graph of plain stages: ``model: hf:ORG/REPO@COMMIT`` and ``task`` to the
stages of ``wakeful.tasks``, with values from the configuration that lies beside the model.

Pure but for reading that folder. What a configuration asks for and no stage does is refused, never
left out: a pooling of another kind, a layer that is not in the ONNX file, a step of a picture's
preparation.

Sources: sentence-transformers' ``modules.json``, ``1_Pooling/config.json``,
``sentence_bert_config.json`` and ``config_sentence_transformers.json``; transformers'
``config.json`` (``id2label``, ``problem_type``), ``tokenizer_config.json`` (``model_max_length``)
and ``preprocessor_config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.named_models.picture_values import picture_values
from runtime.artifacts.named_models.repositories import (
    COMMIT_DIGITS,
    EXPORTS,
    STAMP,
    find_onnx,
    model_folder,
    quantized_file,
)
from runtime.declaration.constrained_types import MODEL_NAME, TaskName
from runtime.declaration.function_spec import AnySpec, DeclaredSpec, StageSpec
from runtime.errors import StoreError
from runtime.onnx.model_info import ModelInfo
from runtime.settings import Settings
from runtime.system.messages import quote
from runtime.types.tensors import TensorSpec

ModelReader = Callable[[Path], ModelInfo]
"""Reads the interface of a model file."""

TEXT_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of a transformer that read text, as exporters name them."""

OFFSET_POSITIONS: Final = ("roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl")
"""Types of models whose first positions are not for tokens: RoBERTa's 514 are for 512 tokens."""

DEFAULT_LENGTH: Final = 512
"""Tokens after which a text is cut where no configuration says it."""

NO_LENGTH: Final = 1_000_000
"""A ``model_max_length`` from here on means that there is none."""

POOLING: Final = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Our poolings by sentence-transformers' keys."""

EXAMPLES: Final[Mapping[TaskName, dict[str, Any]]] = {
    "embedding": {"text": "The quick brown fox jumps over the lazy dog."},
    "rerank": {
        "query": "What does the fox jump over?",
        "document": "The quick brown fox jumps over the lazy dog.",
    },
    "text-classification": {"text": "The quick brown fox jumps over the lazy dog."},
    "token-classification": {"text": "The fox met Ada in Vienna."},
    "image-classification": {
        "image": (
            "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAAB"
            "JRU5ErkJggg=="
        )
    },
}
"""A request for each task, run at warm-up where the function declares none."""


@dataclass(frozen=True, slots=True)
class _Model:
    """A model and what lies beside it.

    Attributes:
        name: as declared, for messages.
        folder: its files.
        path: of the folder, from the root.
        onnx: the model's file within it.
        sha256: of that; None for a folder of the user's own.
    """

    name: str
    folder: Path
    path: str
    onnx: str
    sha256: str | None
    info: ModelInfo

    def config(self, name: str) -> dict[str, Any]:
        """A file of JSON; empty if it is not there."""
        found = self._read(name)
        if not isinstance(found, dict):
            raise StoreError(f"{self.name}: {name} is no JSON object. Correct it.")
        return found

    def modules(self) -> list[str]:
        """The kinds of sentence-transformers' modules, in their order: ``Pooling``."""
        found = self._read("modules.json")
        if not found:
            return []
        if not isinstance(found, list):
            raise StoreError(f"{self.name}: modules.json is no list. Correct it.")
        return [str(module.get("type", "")).rpartition(".")[2] for module in found]

    def output(self, axes: int, *names: str) -> TensorSpec | None:
        """The output of so many axes, that of the rows included: by these names, or the first."""
        fitting = [spec for spec in self.info.outputs if len(spec.shape) == axes]
        named = [spec for name in names for spec in fitting if spec.name == name]
        return next(iter([*named, *fitting]), None)

    def find(self, name: str) -> str:
        """The path of a file of the configuration in the folder; empty if it is not there."""
        beside = (Path(self.onnx).parent / name).as_posix()
        return next((path for path in (name, beside) if (self.folder / path).is_file()), "")

    def refuse(self, why: str) -> StoreError:
        """That the model cannot be served by its name."""
        return StoreError(
            f"{self.name}: {why} Write the graph yourself: the stages of `wakeful.tasks` may be"
            " copied."
        )

    def _read(self, name: str) -> Any:
        try:
            path = self.find(name)
            return json.loads((self.folder / path).read_text(encoding="utf-8")) if path else {}
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.name}: {name} cannot be read: {error}.") from error


Stage = dict[str, Any]


def expand_model(spec: AnySpec, settings: Settings, read_model: ModelReader) -> AnySpec:
    """A function with the graph that its ``model`` and ``task`` stand for; others as they are.

    Raises:
        StoreError: the model is not on this machine, or is none for the task.
        LoadError: its file is no ONNX model.
    """
    if spec.model is None:
        return spec
    assert spec.task is not None  # the declaration has been checked
    model = _open(spec, settings, read_model)
    try:
        stages = [
            StageSpec.model_validate(stage, by_alias=True, by_name=False)
            for stage in _MAKERS[spec.task](model)
        ]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        # a configuration may hold anything
        raise model.refuse(
            f"its configuration has another form than is known here ({error})."
        ) from error
    update: dict[str, Any] = {"graph": tuple(stages), "model": None, "quantize": None}
    if spec.example is None:
        update["example"] = EXAMPLES[spec.task]
    if spec.task == "image-classification" and not spec.accepts:
        update["accepts"] = ("image/*",)
    return spec.model_copy(update=update)


def _open(spec: DeclaredSpec, settings: Settings, read_model: ModelReader) -> _Model:
    name = spec.model or ""
    folder = model_folder(name, settings)
    shown = name
    digests: dict[str, str] = {}
    if found := MODEL_NAME.fullmatch(name):
        shown = f"hf:{found['repository']}@{found['revision'][:COMMIT_DIGITS]}"
        try:
            digests = json.loads((folder / STAMP).read_text())
        except (OSError, ValueError):
            raise StoreError(
                f"{shown} is not on this machine; run `wakeful models pull`."
            ) from None
    elif not _is_folder(folder):
        raise StoreError(
            f"{folder} is not there. Write a folder with an ONNX file, or hf:ORG/REPO@COMMIT, which"
            " `wakeful add ORG/REPO` writes."
        )
    try:
        path = folder.relative_to(settings.root).as_posix()
    except ValueError:
        raise StoreError(
            f"{shown} lies in {folder}, outside of {settings.root}, where the paths of stages"
            " start. Let WAKEFUL_MODELS be a folder in it."
        ) from None
    pinned = next((path for path in digests if path.endswith(".onnx")), "")
    onnx = pinned or find_onnx(folder, shown)
    digest = digests.get(onnx)
    if spec.quantize is not None:
        onnx, digest = quantized_file(folder, onnx, settings.models, shown), None
    return _Model(shown, folder, path, onnx, digest, read_model(folder / onnx))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.") from error


def _embedding(model: _Model) -> list[Stage]:
    config, stages, source = model.config("sentence_bert_config.json"), [], {}
    modules = model.modules()
    known = ("Transformer", "Pooling", "Normalize")
    others = [kind for kind in modules if kind not in known]
    hidden = model.output(3, "last_hidden_state", "token_embeddings")
    vector = model.output(2, "sentence_embedding")
    has_whole = vector is not None and vector.name == "sentence_embedding"
    if has_whole and (others or not modules):
        hidden = None  # exported with all that comes behind the tokens
    if others and hidden is not None:
        raise model.refuse(f"modules.json has {', '.join(others)}, which is not in the ONNX file.")
    if prompts := _prompts(model):
        stages.append(
            {"stage": "prompted", "python": "wakeful.tasks.embedding:Prompt", "with": prompts}
        )
        source = {"inputs": {"text": "prompted"}}
    tokenize = {"lowercase": True} if config.get("do_lower_case") else {}
    stages.append(
        _tokenize(model, "text", tokenize, config.get("max_seq_length")) | source,
    )
    stages.append(_text_model(model))
    normalize: dict[str, Any] = {"normalize": True} if "Normalize" in modules else {}
    if hidden is not None:
        stage = {"python": "wakeful.tasks.embedding:Pool", "inputs": {"hidden": hidden.name}}
        options = {"mode": _pooling(model)} | normalize
    elif vector is not None:
        stage = {"python": "wakeful.tasks.embedding:Pooled", "inputs": {"vector": vector.name}}
        options = normalize
    else:
        raise _wrong_output(model, "embedding", "a vector for each token or for the text")
    return [*stages, {"stage": "pool", **stage, "with": options}]


def _prompts(model: _Model) -> dict[str, Any]:
    config = model.config("config_sentence_transformers.json")
    prompts = {
        str(name): _literal(str(text))
        for name, text in (config.get("prompts") or {}).items()
        if text
    }
    default = config.get("default_prompt_name") or ""
    if prompts and model.config("1_Pooling/config.json").get("include_prompt") is False:
        raise model.refuse("its pooling leaves the prompt's tokens out (`include_prompt: false`).")
    return {"prompts": prompts, "default": default if default in prompts else ""} if prompts else {}


def _pooling(model: _Model) -> str:
    name = "1_Pooling/config.json"
    if "Pooling" in model.modules() and not model.find(name):
        raise model.refuse(f"modules.json has a Pooling, and {name} is not there.")
    config = model.config(name)
    if isinstance(named := config.get("pooling_mode"), str):
        modes = [named]
    else:
        modes = [
            key for key, value in config.items() if key.startswith("pooling_") and value is True
        ]
    if not modes:
        return "mean"  # sentence-transformers' own default
    found = POOLING.get(modes[0], modes[0])
    if len(modes) > 1 or found not in POOLING.values():
        raise model.refuse(
            f"it pools by {', '.join(modes)}, and here by one of {_listed(POOLING)}."
        )
    return found


def _rerank(model: _Model) -> list[Stage]:
    logits = _logits(model, "rerank", 2)
    if logits.shape[-1] not in (1, -1) or len(_labels(model, 1)) != 1:
        raise model.refuse("it gives several numbers a pair, and a reranker one.")
    config = model.config("config.json")
    named = (config.get("sentence_transformers") or {}).get("activation_fn") or config.get(
        "sbert_ce_default_activation_function", "Sigmoid"
    )
    activation = str(named).rpartition(".")[2].lower()
    if activation not in ("sigmoid", "identity"):
        raise model.refuse(f"its activation is {named}.")
    score = {
        "stage": "score",
        "python": "wakeful.tasks.rerank:Score",
        "with": {"activation": activation},
    }
    tokenize = _tokenize(model, "rerank", {}, None, kind="TokenizePair")
    return [tokenize, _text_model(model), score | _taking_logits(logits)]


def _text_classification(model: _Model) -> list[Stage]:
    logits = _logits(model, "text-classification", 2)
    labels = _labels(model, logits.shape[-1])
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise model.refuse(f"`id2label` has {_quoted(twice)} twice, and scores are by label.")
    problem = model.config("config.json").get("problem_type")
    if problem == "regression":
        raise model.refuse("it gives a number (`problem_type: regression`), and no labels.")
    is_multiple = problem == "multi_label_classification" or len(labels) == 1
    classify = {
        "stage": "classify",
        "python": "wakeful.tasks.text_classification:Classify",
        "with": {"labels": labels, "scores": "sigmoid" if is_multiple else "softmax"},
    }
    tokenize = _tokenize(model, "text", {}, None)
    return [tokenize, _text_model(model), classify | _taking_logits(logits)]


def _token_classification(model: _Model) -> list[Stage]:
    logits = _logits(model, "token-classification", 3)
    gather = {
        "stage": "gather",
        "python": "wakeful.tasks.token_classification:Gather",
        "with": {"labels": _labels(model, logits.shape[-1])},
    }
    tokenize = _tokenize(model, "token_classification", {}, None)
    return [tokenize, _text_model(model), gather | _taking_logits(logits)]


def _image_classification(model: _Model) -> list[Stage]:
    logits = _logits(model, "image-classification", 2)
    if model.config("config.json").get("problem_type") == "multi_label_classification":
        raise model.refuse("several labels of a picture may be right.")
    inputs = [spec.name for spec in model.info.inputs]
    if len(inputs) != 1:
        raise model.refuse(f"it takes {', '.join(inputs)}, and a picture is one input.")
    if not model.find("preprocessor_config.json"):
        raise model.refuse(
            "it has no preprocessor_config.json, which says how a picture is prepared."
        )
    try:
        values = picture_values(model.config("preprocessor_config.json"))
    except ValueError as error:
        raise model.refuse(f"preprocessor_config.json: {error}.") from error
    return [
        {
            "stage": "pixels",
            "python": "wakeful.tasks.image_classification:Pixels",
            "with": values,
        },
        {**_stage_of(model), "inputs": {inputs[0]: "pixels"}},
        {
            "stage": "name",
            "python": "wakeful.tasks.image_classification:Name",
            "with": {"labels": _labels(model, logits.shape[-1])},
        }
        | _taking_logits(logits),
    ]


_MAKERS: Final[Mapping[TaskName, Callable[[_Model], list[Stage]]]] = {
    "embedding": _embedding,
    "rerank": _rerank,
    "text-classification": _text_classification,
    "token-classification": _token_classification,
    "image-classification": _image_classification,
}


def _tokenize(
    model: _Model, module: str, options: dict[str, Any], length: Any, *, kind: str = "Tokenize"
) -> Stage:
    """The stage that makes token ids.

    Args:
        length: tokens after which a text is cut, if the task's own configuration says it.
    """
    tokenizer = model.find("tokenizer.json")
    if not tokenizer:
        raise model.refuse(
            "it has no tokenizer.json. Make one: transformers' `AutoTokenizer.from_pretrained(...)"
            ".save_pretrained(...)`."
        )
    if model.config("tokenizer_config.json").get("truncation_side", "right") != "right":
        raise model.refuse("its tokenizer cuts the beginning of a long text (`truncation_side`).")
    typed = "Typed" if "token_type_ids" in {spec.name for spec in model.info.inputs} else ""
    return {
        "stage": "tokenize",
        "python": f"wakeful.tasks.{module}:{kind}{typed}",
        "with": {
            "tokenizer": f"{model.path}/{tokenizer}",
            "max_length": _max_length(model, length),
            **options,
        },
    }


def _max_length(model: _Model, length: Any) -> int:
    config = model.config("config.json")
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in OFFSET_POSITIONS:
        positions -= int(config.get("pad_token_id") or 0) + 1
    found = [length, model.config("tokenizer_config.json").get("model_max_length")]
    own = next((n for n in found if isinstance(n, int) and 0 < n < NO_LENGTH), DEFAULT_LENGTH)
    return min(own, positions) if isinstance(positions, int) and positions > 0 else own


def _text_model(model: _Model) -> Stage:
    """The model's stage, with the numbers that rows of unlike length are filled up with."""
    inputs = [spec.name for spec in model.info.inputs]
    if unknown := [name for name in inputs if name not in TEXT_INPUTS]:
        raise model.refuse(f"it takes {', '.join(unknown)}, which no stage gives.")
    if missing := [name for name in TEXT_INPUTS[:2] if name not in inputs]:
        raise model.refuse(f"it takes no {', '.join(missing)}.")
    pad = dict.fromkeys(inputs, 0)
    pad["input_ids"] = int(model.config("config.json").get("pad_token_id") or 0)
    return {**_stage_of(model), "pad": pad}


def _stage_of(model: _Model) -> Stage:
    stage = {"stage": "model", "onnx": f"{model.path}/{model.onnx}"}
    return stage | ({"sha256": model.sha256} if model.sha256 else {})


def _logits(model: _Model, task: TaskName, axes: int) -> TensorSpec:
    found = model.output(axes, "logits")
    if found is None:
        what = "numbers for each token" if axes == 3 else "a number for each label"
        raise _wrong_output(model, task, what)
    return found


def _wrong_output(model: _Model, task: TaskName, wanted: str) -> StoreError:
    outputs = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in model.info.outputs)
    return StoreError(
        f"{model.name}: {model.onnx} gives {outputs}, and the task {task} wants {wanted}. Is it"
        f" exported for another task? `optimum-cli export onnx --task {EXPORTS[task]}` makes it."
    )


def _taking_logits(output: TensorSpec) -> Stage:
    return {} if output.name == "logits" else {"inputs": {"logits": output.name}}


def _labels(model: _Model, count: int) -> list[str]:
    """The labels in the order of the model's numbers; ``LABEL_0`` and so on where it has none."""
    named = model.config("config.json").get("id2label") or {}
    if not named:
        if count < 0:
            raise model.refuse("config.json has no `id2label`.")
        return [f"LABEL_{index}" for index in range(count)]
    try:
        labels = [_literal(str(named[str(index)])) for index in range(len(named))]
    except KeyError as error:
        raise model.refuse(f"`id2label` of config.json has no {quote(error.args[0])}.") from error
    if count not in (-1, len(labels)):
        raise model.refuse(f"config.json has {len(labels)} labels, and the model {count} numbers.")
    return labels


def _literal(text: str) -> str:
    """A text of ``with`` that names no secret."""
    return text.replace("${", "$${")


def _listed(names: Mapping[str, str]) -> str:
    return ", ".join(names.values())


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))
