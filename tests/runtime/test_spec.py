from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.declaration.complaints import complaints
from runtime.declaration.place import render
from runtime.spec import ArgsSpec, BatchingSpec, FunctionSpec, StageSpec, from_tunables, identity, tunables

SHA = "0123456789abcdef" * 4
GRAPH: list[dict[str, Any]] = [
    {"stage": "tokenize", "python": "apps.embed:Tokenize", "with": {"tokenizer": "models/t.json"}},
    {"stage": "model", "onnx": "models/m.onnx", "inputs": {"input_ids": "ids"}, "pad": {"input_ids": 1, "bias": 0.5}},
]


def embed(**args: Any) -> FunctionSpec:
    """A function of two stages."""
    return FunctionSpec.from_args("embed", "/v2/models/embed", {"graph": GRAPH, **args})


def said(**args: Any) -> list[str]:
    """What is wrong with these args."""
    return [f"{render(complaint.loc)}: {complaint.message}" for complaint in complaints(ArgsSpec, args)[1]]


def test_defaults_are_those_of_the_design() -> None:
    """A graph is all that has to be written."""
    spec = embed()
    assert (spec.tier, spec.description, spec.slo.latency_p95_ms, spec.example) == ("auto", "", None, None)
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas, spec.autoscaling.initial_replicas) == (0, 1, None)
    assert (spec.limits.max_ongoing_requests, spec.limits.max_queued_requests, spec.limits.max_rows) == (128, 256, 1024)
    assert (spec.resources.num_cpus, spec.resources.num_gpus, spec.resources.providers) == (1, 0, None)
    assert spec.batching == BatchingSpec()


def test_a_bare_model_is_a_graph_of_one_stage() -> None:
    """``onnx: path`` with nothing else."""
    spec = FunctionSpec.from_args("m", "/m", {"onnx": "pypi:some-model==1.0/a/m.onnx", "sha256": SHA.upper()})
    assert spec.graph == (StageSpec(stage="model", onnx="pypi:some-model==1.0/a/m.onnx", sha256=SHA),)


def test_args_written_out_read_back_equal() -> None:
    """Also through JSON, as Ray hands them over."""
    spec = embed(
        resources={"num_gpus": 0.25, "providers": ["CUDAExecutionProvider"]}, slo={"latency_p95_ms": 50}, example={"text": ["a", None]}
    )
    args = json.loads(json.dumps(spec.to_args()))
    assert FunctionSpec.from_args("embed", "/v2/models/embed", args) == spec
    assert args["graph"][0]["with"] == {"tokenizer": "models/t.json"}
    assert "name" not in args


@given(
    batching=st.fixed_dictionaries(
        {},
        optional={
            "max_batch_size": st.integers(1, 128),
            "max_padding": st.floats(0, 1),
            "max_batch_cost": st.none() | st.integers(1, 10**9),
        },
    ),
    num_gpus=st.sampled_from([0, 0.25, 0.5, 1, 2]),
    pad=st.dictionaries(st.text(max_size=5), st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
)
def test_every_declaration_survives_the_round_trip(batching: dict[str, Any], num_gpus: float, pad: dict[str, float]) -> None:
    """Whatever was declared, its args declare the same, and the same is one identity."""
    graph = [{"stage": "model", "onnx": "m.onnx", "pad": pad}]
    spec = FunctionSpec.from_args("a", "/a", {"graph": graph, "batching": batching, "resources": {"num_gpus": num_gpus}})
    again = FunctionSpec.from_args("a", "/a", json.loads(json.dumps(spec.to_args())))
    assert again == spec
    assert identity(again) == identity(spec)


def test_identity_is_what_needs_a_restart() -> None:
    """Graph and resources change it, what is tunable does not."""
    spec = embed()
    assert identity(spec) == identity(
        embed(batching={"max_batch_size": 8}, limits={"max_rows": 5}, description="x", autoscaling={"max_replicas": 3})
    )
    assert identity(spec) != identity(embed(resources={"num_cpus": 2}))
    assert identity(spec) != identity(embed(graph=GRAPH[:1]))
    assert identity(spec) != identity(embed(accepts=["text/plain"]))


def test_tunables_are_replaced_and_checked() -> None:
    """Sections not named stay; a section that takes a restart is refused."""
    spec = embed(limits={"max_rows": 7})
    assert from_tunables(embed(), tunables(spec)) == spec
    assert from_tunables(spec, {"batching": {"max_batch_size": 64}}).limits.max_rows == 7
    with pytest.raises(ValueError, match="graph cannot change while a function runs; batching, limits, slo, sequences can"):
        from_tunables(spec, {"graph": []})
    with pytest.raises(ValidationError, match="max_batch_size"):
        from_tunables(spec, {"batching": {"max_batch_size": 1000}})


def test_a_name_among_the_args_is_refused() -> None:
    """Name and prefix stand beside the args, as Ray has them."""
    with pytest.raises(ValidationError, match="name"):
        embed(name="other")


def test_a_key_has_one_spelling_in_a_file() -> None:
    """Python's ``with_`` is Python's."""
    assert said(graph=[{"stage": "a", "python": "a:b", "with_": {}}]) == ["graph[0].with_: unknown key, did you mean with?"]
    assert StageSpec(stage="a", python="a:b", with_={"x": 1}) == StageSpec.model_validate({"stage": "a", "python": "a:b", "with": {"x": 1}})


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"stage": "a"}, "graph[0]: neither `python` nor `onnx` nor `function` stands here. A stage is one of them."),
        ({"stage": "a", "python": "a:b", "onnx": "m.onnx"}, "graph[0].onnx: `python` and `onnx` both stand here. Make two stages of it."),
        ({"onnx": "m.onnx"}, "graph[0].stage: missing, and it has no default."),
        ({"stage": "a", "onx": "m.onnx"}, "graph[0].onx: unknown key, did you mean onnx?"),
        (
            {"stage": "a-b", "onnx": "m.onnx"},
            "graph[0].stage: 'a-b' is not a stage name: letters, digits and '_', no digit first, no word of Python's own.",
        ),
        (
            {"stage": "if", "onnx": "m.onnx"},
            "graph[0].stage: 'if' is not a stage name: letters, digits and '_', no digit first, no word of Python's own.",
        ),
        ({"stage": "a", "python": "apps.embed"}, "graph[0].python: 'apps.embed' is not package.module:attribute."),
        ({"stage": "a", "python": "apps/embed.py:f"}, "graph[0].python: 'apps/embed.py:f' is not package.module:attribute."),
        ({"stage": "a", "python": "a:b:c"}, "graph[0].python: 'a:b:c' is not package.module:attribute."),
        (
            {"stage": "a", "python": "os:system"},
            "graph[0].python: 'os:system' is in Python's standard library. A stage is a function or class of yours.",
        ),
        (
            {"stage": "a", "python": "os.path:join"},
            "graph[0].python: 'os.path:join' is in Python's standard library. A stage is a function or class of yours.",
        ),
        (
            {"stage": "a", "onnx": "m.onnx", "with": {"a": 1}},
            "graph[0].with: `with` gives arguments to a Python class; a model takes none. Delete it.",
        ),
        ({"stage": "a", "python": "a:b", "pad": {"x": 0}}, "graph[0].pad: `pad` is about a model, and this stage is Python. Delete it."),
        (
            {"stage": "a", "python": "a:b", "sha256": SHA},
            "graph[0].sha256: `sha256` is about a model, and this stage is Python. Delete it.",
        ),
        ({"stage": "a", "onnx": "m.onnx", "pad": {"x": "0"}}, "graph[0].pad.x: '0' is a string, a number is wanted."),
        ({"stage": "a", "onnx": "m.onnx", "pad": {"x": True}}, "graph[0].pad.x: true is a boolean, a number is wanted."),
        ({"stage": "a", "onnx": "m.onnx", "sha256": "abc"}, "graph[0].sha256: 'abc' is not a sha256, which has 64 hexadecimal digits."),
        (
            {"stage": "a", "onnx": "hf:org/repo@main/m.onnx"},
            "graph[0].onnx: it is fetched, so write down what it must be: add `sha256:` with the file's 64 hexadecimal digits.",
        ),
        ({"stage": "a", "onnx": "hf:repo/m.onnx", "sha256": SHA}, "graph[0].onnx: 'hf:repo/m.onnx' is not hf:ORG/REPO@REVISION/PATH."),
        ({"stage": "a", "onnx": "pypi:a/m.onnx", "sha256": SHA}, "graph[0].onnx: 'pypi:a/m.onnx' is not pypi:PACKAGE==VERSION/PATH."),
        (
            {"stage": "a", "onnx": "https://host/m.onnx"},
            "graph[0].onnx: 'https://host/m.onnx' has an unknown scheme. "
            "Write a path, pypi:PACKAGE==VERSION/PATH or hf:ORG/REPO@REVISION/PATH.",
        ),
        ({"stage": "a", "onnx": "m.pt"}, "graph[0].onnx: 'm.pt' does not end with .onnx."),
        (
            {"stage": "a", "onnx": "$MODELS/m.onnx"},
            "graph[0].onnx: '$MODELS/m.onnx' is not a plain path: nothing is expanded in it, and none of \\ $ * ? : stands in one.",
        ),
        (7, "graph[0]: 7 is an integer, a mapping is wanted."),
    ],
)
def test_a_stage_that_cannot_be_is_refused(stage: Any, message: str) -> None:
    """One sentence, at the key that is wrong."""
    assert said(graph=[stage]) == [message]


@pytest.mark.parametrize("path", ["../m.onnx", "/m.onnx", "~/m.onnx", "a/../../m.onnx", "a//m.onnx"])
def test_a_model_lies_within_its_folder(path: str) -> None:
    """In a local path and within a package alike."""
    for onnx in (path, f"pypi:a==1/{path}"):
        message = f"{onnx!r} leads out of the folder it starts from. Write a path within that folder; WAKEFUL_ROOT moves it."
        assert said(onnx=onnx, sha256=SHA) == [f"onnx: {message}"]


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        ({"batching": {"max_batch_size": "thirty-two"}}, ["batching.max_batch_size: 'thirty-two' is a string, an integer is wanted."]),
        ({"batching": {"max_batch_size": 2.5}}, ["batching.max_batch_size: 2.5 is a number, an integer is wanted."]),
        ({"batching": {"max_batch_size": True}}, ["batching.max_batch_size: true is a boolean, an integer is wanted."]),
        ({"batching": {"max_batch_size": None}}, ["batching.max_batch_size: nothing stands here, an integer is wanted."]),
        ({"batching": {"max_batch_size": [1]}}, ["batching.max_batch_size: this is a list, an integer is wanted."]),
        ({"batching": {"max_batch_size": 0}}, ["batching.max_batch_size: 0 is given, at least 1 is wanted."]),
        ({"batching": {"max_padding": 1.5}}, ["batching.max_padding: 1.5 is given, at most 1 is wanted."]),
        (
            {"batching": {"batch_wait_timeout_s": float("inf")}},
            ["batching.batch_wait_timeout_s: inf is a number, a finite number is wanted."],
        ),
        ({"batching": []}, ["batching: this is a list, a mapping is wanted."]),
        ({"description": 1.0}, ["description: 1.0 is a number, a string is wanted. Put it in quotes."]),
        ({"max_batch_size": 8}, ["max_batch_size: unknown key here; max_batch_size belongs under batching."]),
        ({"resources": {"max_rows": 8}}, ["resources.max_rows: unknown key here; max_rows belongs under limits."]),
        ({"batching": {"max-batchsize": 8}}, ["batching.max-batchsize: unknown key, did you mean max_batch_size?"]),
        ({"slo": {"speed": 8}}, ["slo.speed: unknown key; known here: latency_p95_ms."]),
        ({"tier": "shared"}, ["tier: 'shared' is not one of 'auto', 'own'."]),
        ({"limits": {"max_queued_requests": -1}}, ["limits.max_queued_requests: -1 is given, at least 1 is wanted."]),
        ({"limits": {"request_timeout_s": 0}}, ["limits.request_timeout_s: 0 is given, more than 0 is wanted."]),
        ({"resources": {"num_gpus": 1.5}}, ["resources.num_gpus: 1.5 is neither a fraction below 1 nor whole; Ray cannot place it."]),
        (
            {"resources": {"device": "cuda"}},
            [
                "resources.device: cuda runs on a GPU. Without `num_gpus` Ray gives no GPU, and a function on CPUs never touches one. "
                "Add its share: `num_gpus: 1`, or less."
            ],
        ),
        (
            {"resources": {"providers": ["CUDAExecutionProvider"]}},
            [
                "resources.providers: CUDAExecutionProvider runs on a GPU. Without `num_gpus` Ray gives no GPU, and a function on CPUs "
                "never touches one. Add its share: `num_gpus: 1`, or less."
            ],
        ),
        (
            {"resources": {"gpu_memory_mb": 4000}},
            ["resources.gpu_memory_mb: memory of a GPU is declared, and no GPU: add `num_gpus`, the share that holds it."],
        ),
        (
            {"resources": {"device": "cpu", "num_gpus": 1}},
            ["resources.num_gpus: `num_gpus` reserves a GPU that `device: cpu` does not use. Delete one."],
        ),
        (
            {"resources": {"device": "openvino", "providers": ["OpenVINOExecutionProvider"]}},
            ["resources.providers: `device` and `providers` both say what models run on. Delete one."],
        ),
        (
            {"resources": {"device": "gpu"}},
            ["resources.device: 'gpu' is not one of 'auto', 'cpu', 'cuda', 'tensorrt', 'openvino', 'coreml', 'directml'."],
        ),
        ({"resources": {"providers": []}}, ["resources.providers: no provider is named. Name one, or delete the key."]),
        (
            {"resources": {"providers": ["CUDA"]}},
            ["resources.providers[0]: 'CUDA' is not an execution provider of ONNX Runtime, such as CUDAExecutionProvider."],
        ),
        (
            {"autoscaling": {"min_replicas": 2}},
            ["autoscaling.min_replicas: min_replicas 2 is above max_replicas 1. Lower the one or raise the other."],
        ),
        ({"autoscaling": {"max_replicas": 0}}, ["autoscaling.max_replicas: 0 is given, at least 1 is wanted."]),
        (
            {"autoscaling": {"initial_replicas": 3, "max_replicas": 2}},
            ["autoscaling.initial_replicas: initial_replicas 3 is not between min_replicas 0 and max_replicas 2."],
        ),
        (
            {"limits": {"max_ongoing_requests": 16}},
            [
                "limits.max_ongoing_requests: `max_batch_size` above `max_ongoing_requests`: "
                "16 requests of a row each never fill a batch of 32. Lower the one or raise the other."
            ],
        ),
        (
            {"example": {"a": float("nan")}},
            ["example: only what JSON can say stands here: mappings, lists, text, finite numbers, true, false and null."],
        ),
        ({"graph": []}, ["args: neither `graph` nor `onnx` stands here. A function has at least one stage."]),
        (
            {"onnx": "m.onnx"},
            ["onnx: `onnx` and `graph` both stand here. Write the model as a stage of the graph."],
        ),
        (
            {"graph": [{"stage": "a", "onnx": "m.onnx"}, {"stage": "a", "onnx": "n.onnx"}]},
            ["graph[1].stage: 'a' is also the name of graph[0]. Give each stage a name of its own."],
        ),
    ],
)
def test_args_that_cannot_be_are_refused(args: dict[str, Any], messages: list[str]) -> None:
    """One sentence, at the key that is wrong."""
    given = said(**{"graph": [{"stage": "a", "onnx": "m.onnx"}], **args})
    assert [message if message[0] != ":" else f"args{message}" for message in given] == messages


def test_one_mistake_hides_no_other() -> None:
    """A comparison of two keys is made although a third is misspelt, and not made with a key that is itself wrong."""
    args = {"onx": "m.onnx", "batching": {"max_batch_size": 256}, "autoscaling": {"min_replicas": 3, "max_replicas": "two"}}
    assert said(**args) == [
        "onx: unknown key, did you mean onnx?",
        "autoscaling.max_replicas: 'two' is a string, an integer is wanted.",
        "batching.max_batch_size: `max_batch_size` above `max_ongoing_requests`: "
        "128 requests of a row each never fill a batch of 256. Lower the one or raise the other.",
    ]
