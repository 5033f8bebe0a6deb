"""A model's name and a task come to stages, by the configuration beside the model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.artifacts.named_models.expansion import expand_model
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import StoreError
from runtime.onnx.model_info import inspect_model
from runtime.settings import Settings
from tests.problems import expect_values
from tests.runtime.artifacts.named_models import made

MOODS = ("calm", "glad", "angry")


def expanded(root, task: str, files: dict[str, bytes], **changed: Any) -> FunctionSpec:
    """The function of a folder `models/m` with those files, some of which are changed."""
    names = {"pooling": "1_Pooling/config.json", "prompts": "config_sentence_transformers.json"}
    for key, data in changed.items():
        name = names.get(key, f"{key}.json")
        if data is None:
            files.pop(name)
        else:
            files[name] = json.dumps(data).encode()
    made.write(files, root / "models" / "m")
    spec = FunctionSpec.from_args("f", "/v2/models/f", {"model": "models/m", "task": task})
    return expand_model(spec, Settings.read({"WAKEFUL_ROOT": str(root)}), inspect_model)


def stages(spec: FunctionSpec) -> dict[str, str]:
    return {
        stage.stage: (stage.python or stage.onnx or "").removeprefix("wakeful.tasks.")
        for stage in spec.graph
    }


def test_a_sentence_model_is_pooled(tmp_path):
    """As `modules.json` and the pooling's own file say; texts end where the model was trained to."""
    spec = expanded(tmp_path, "embedding", made.sentence_files())
    assert stages(spec) == {
        "tokenize": "text:TokenizeTyped",
        "model": "models/m/onnx/model.onnx",
        "pool": "embedding:Pool",
    }
    tokenize, model, pool = spec.graph
    assert tokenize.with_ == {"tokenizer": "models/m/tokenizer.json", "max_length": 16}
    assert model.pad == {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0}
    assert (pool.with_, pool.inputs) == (
        {"mode": "mean", "normalize": True},
        {"hidden": "last_hidden_state"},
    )
    assert (spec.model, spec.task) == (None, "embedding")
    assert spec.example is not None


@pytest.mark.parametrize(
    ("pooling", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode": "cls"}, "cls"),
        ({}, "mean"),
    ],
)
def test_the_pooling_is_that_of_its_file(tmp_path, pooling, mode):
    """In its older and its newer form."""
    spec = expanded(tmp_path, "embedding", made.sentence_files(normalize=False), pooling=pooling)
    assert spec.graph[-1].with_ == {"mode": mode}


def test_a_model_that_was_exported_whole_pools_by_itself(tmp_path):
    """As sentence-transformers' export names its answer; then a layer behind the pooling is in it."""
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    files = made.sentence_files()
    files["onnx/model.onnx"] = made.whole_sentence_model()
    assert expanded(tmp_path, "embedding", files).graph[-1].python.endswith(":Pool")
    last = expanded(tmp_path, "embedding", files, modules=modules).graph[-1]
    assert (last.python, last.inputs) == (
        "wakeful.tasks.embedding:Pooled",
        {"vector": "sentence_embedding"},
    )


def test_prompts_are_put_before_the_text(tmp_path):
    """By the name that the caller gives, or the default; empty ones are none."""
    prompts = {"prompts": {"query": "find: ", "document": ""}, "default_prompt_name": "query"}
    spec = expanded(tmp_path, "embedding", made.sentence_files(), prompts=prompts)
    prompt, tokenize = spec.graph[:2]
    assert prompt.with_ == {"prompts": {"query": "find: "}, "default": "query"}
    assert tokenize.inputs == {"text": "prompted"}
    none = {"prompts": {"query": "", "document": ""}}
    spec = expanded(tmp_path, "embedding", made.sentence_files(), prompts=none)
    assert [stage.stage for stage in spec.graph] == ["tokenize", "model", "pool"]


@pytest.mark.parametrize(
    ("config", "tokenizer_config", "length"),
    [
        ({}, {}, 40),
        ({}, {"model_max_length": 20}, 20),
        ({}, {"model_max_length": 10**30}, 40),
        ({"max_position_embeddings": 514, "model_type": "roberta", "pad_token_id": 1}, {}, 512),
        ({"max_position_embeddings": None}, {}, 512),
    ],
)
def test_a_text_is_cut_where_the_model_ends(tmp_path, config, tokenizer_config, length):
    """At what its tokenizer says, at most at its positions."""
    config = {**made.CONFIG, "id2label": dict(enumerate(MOODS)), **config}
    files = made.text_files("sequence", MOODS)
    spec = expanded(
        tmp_path, "text-classification", files, config=config, tokenizer_config=tokenizer_config
    )
    assert spec.graph[0].with_["max_length"] == length


def test_a_pad_token_is_the_models_own(tmp_path):
    """RoBERTa's is 1."""
    files = made.text_files("sequence", MOODS, pad_token_id=1)
    assert expanded(tmp_path, "text-classification", files).graph[1].pad["input_ids"] == 1


def test_a_label_names_no_secret(tmp_path):
    """Whatever is in it."""
    files = made.text_files("sequence", ("${HOME}", "b"))
    spec = expanded(tmp_path, "text-classification", files)
    assert spec.graph[-1].with_["labels"] == ["$${HOME}", "b"]


@pytest.mark.parametrize(
    ("activation", "score"),
    [
        ({}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.Identity"}}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.Sigmoid"}, "sigmoid"),
    ],
)
def test_a_rerankers_activation_is_its_configurations(tmp_path, activation, score):
    """The sigmoid where it says nothing."""
    spec = expanded(tmp_path, "rerank", made.text_files("sequence", ("one",), **activation))
    assert spec.graph[-1].with_ == {"activation": score}
    assert stages(spec)["tokenize"] == "rerank:TokenizePairTyped"


def test_a_picture_is_prepared_as_its_file_says(tmp_path):
    """Values of the stage, and a body that is the picture."""
    spec = expanded(tmp_path, "image-classification", made.picture_files(("cat", "dog")))
    assert spec.graph[0].with_ == {
        "resize": [12],
        "resample": 3,
        "crop": [8, 8],
        "rescale": 1 / 255,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.5],
    }
    assert spec.accepts == ("image/*",)


@pytest.mark.parametrize(
    ("side", "resize", "crop"), [(224, [256], [224, 224]), (384, [384, 384], None)]
)
def test_a_share_of_the_picture_is_kept(tmp_path, side, resize, crop):
    """As ConvNeXt's and ResNet's files say; large squares are pressed."""
    kept = {"size": {"shortest_edge": side}, "crop_pct": 0.875, "do_center_crop": False}
    files = made.picture_files(("cat", "dog"), **kept)
    values = expanded(tmp_path, "image-classification", files).graph[0].with_
    assert (values["resize"], values.get("crop")) == (resize, crop)


@pytest.mark.parametrize(
    ("processor", "size", "resize", "crop"),
    [
        ({"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875}, 64, [73], 64),
        ({"image_processor_type": "ConvNextImageProcessor"}, {"shortest_edge": 64}, [73], 64),
        ({"image_processor_type": "CLIPImageProcessorFast"}, 64, [64], None),
        ({"image_processor_type": "PoolFormerImageProcessor", "crop_pct": 0.9}, 64, [71], 64),
        ({"feature_extractor_type": "DeiTFeatureExtractor"}, 64, [64, 64], None),
        ({}, 64, [64, 64], None),
    ],
)
def test_a_size_of_one_number_is_what_its_processor_means_by_it(
    tmp_path, processor, size, resize, crop
):
    """The shorter side to some; ConvNeXt keeps 224 of 256 unless the file says another share."""
    files = made.picture_files(("cat", "dog"), size=size, do_center_crop=False, **processor)
    values = expanded(tmp_path, "image-classification", files).graph[0].with_
    assert (values["resize"], values.get("crop")) == (resize, crop and [crop, crop])


def test_the_configuration_may_lie_beside_the_model(tmp_path):
    """Where exporters put it."""
    files = made.text_files("sequence", MOODS)
    for name in ("config.json", "tokenizer.json"):
        files[f"onnx/{name}"] = files.pop(name)
    spec = expanded(tmp_path, "text-classification", files)
    assert spec.graph[0].with_["tokenizer"] == "models/m/onnx/tokenizer.json"
    assert spec.graph[-1].with_["labels"] == list(MOODS)


@pytest.mark.parametrize(
    ("task", "files", "changed", "values"),
    [
        ("embedding", made.sentence_files(), {"tokenizer": None}, ["tokenizer.json"]),
        (
            "embedding",
            made.sentence_files(),
            {"modules": [{"type": "a.Transformer"}, {"type": "a.Pooling"}, {"type": "a.Dense"}]},
            ["modules.json", "Dense"],
        ),
        (
            "embedding",
            made.sentence_files(),
            {"pooling": {"pooling_mode_weightedmean_tokens": True}},
            ["pooling_mode_weightedmean_tokens"],
        ),
        (
            "embedding",
            made.sentence_files(),
            {"pooling": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}},
            ["pooling_mode_cls_token", "pooling_mode_max_tokens"],
        ),
        (
            "embedding",
            made.sentence_files(),
            {"pooling": None},
            ["Pooling", "1_Pooling/config.json"],
        ),
        (
            "embedding",
            made.sentence_files(),
            {"tokenizer_config": {"truncation_side": "left"}},
            ["tokenizer", "beginning"],
        ),
        (
            "text-classification",
            made.text_files("sequence", ("a", "b", "a")),
            {},
            ["`id2label`", "'a'", "twice"],
        ),
        ("embedding", made.sentence_files(), {"modules": {}}, None),
        ("embedding", made.sentence_files(), {"modules": {"a": 1}}, ["modules.json", "list"]),
        (
            "embedding",
            made.text_files("sequence", MOODS),
            {},
            None,
        ),
        ("embedding", made.picture_files(("a",)), {}, ["tokenizer.json"]),
        ("rerank", made.text_files("sequence", MOODS), {}, ["several numbers"]),
        (
            "rerank",
            made.text_files("sequence", ("a",), sbert_ce_default_activation_function="torch.Tanh"),
            {},
            ["torch.Tanh"],
        ),
        (
            "text-classification",
            made.text_files("sequence", MOODS, problem_type="regression"),
            {},
            ["regression"],
        ),
        (
            "text-classification",
            made.text_files("sequence", MOODS, id2label={"0": "a"}),
            {},
            ["1 labels", "3 numbers"],
        ),
        (
            "text-classification",
            made.text_files("sequence", MOODS, id2label={"0": "a", "2": "b"}),
            {},
            ["'1'"],
        ),
        ("text-classification", made.text_files("token", MOODS), {}, ["another task"]),
        ("token-classification", made.text_files("sequence", MOODS), {}, ["another task"]),
        ("image-classification", made.picture_files(("a",), do_pad=True), {}, ["do_pad"]),
        (
            "image-classification",
            made.picture_files(("a",), size={"longest_edge": 3}),
            {},
            ["size"],
        ),
        ("image-classification", made.picture_files(("a",), resample=None), {}, ["resample"]),
        (
            "image-classification",
            made.picture_files(("a",), image_processor_type="LevitImageProcessor"),
            {},
            ["LevitImageProcessor"],
        ),
        ("image-classification", made.picture_files(("a",), image_std=[1]), {}, ["image_std"]),
        (
            "image-classification",
            made.picture_files(("a",)),
            {"preprocessor_config": None},
            ["preprocessor_config.json"],
        ),
        (
            "text-classification",
            made.picture_files(("a",)),
            {"config": [1]},
            ["config.json", "JSON object"],
        ),
        ("embedding", made.sentence_files(), {"modules": ["a"]}, ["another form"]),
        ("embedding", made.sentence_files(), {"prompts": {"prompts": ["a"]}}, ["another form"]),
        (
            "text-classification",
            made.text_files("sequence", MOODS, pad_token_id=[0]),
            {},
            ["another form"],
        ),
    ],
)
def test_what_no_stage_does_is_refused(tmp_path, task, files, changed, values):
    """Never left out; the message names the file and what is in it."""
    if values is None:
        expanded(tmp_path, task, dict(files), **changed)
        return
    with pytest.raises(StoreError) as raised:
        expanded(tmp_path, task, dict(files), **changed)
    expect_values(raised.value, *values)


def test_a_folder_with_several_models_is_refused(tmp_path):
    """Unless one is called model.onnx."""
    files = made.text_files("sequence", MOODS)
    files["a.onnx"] = files["b.onnx"] = files.pop("onnx/model.onnx")
    with pytest.raises(StoreError, match=r"a\.onnx, b\.onnx"):
        expanded(tmp_path, "text-classification", files)
