from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.declaration.function_spec import (
    BatchingSpec,
    DeclaredSpec,
    FunctionArgs,
    FunctionSpec,
    StageSpec,
    hash_of,
    live_settings,
    version_hash,
    with_live_settings,
)
from runtime.declaration.sections import worker_count
from runtime.declaration.validation import format_path, validate_all
from tests.problems import expect_values
from tests.runtime.declaration.linked import calling

SHA = "0123456789abcdef" * 4
GRAPH: list[dict[str, Any]] = [
    {"stage": "tokenize", "python": "apps.embed:Tokenize", "with": {"tokenizer": "models/t.json"}},
    {
        "stage": "model",
        "onnx": "models/m.onnx",
        "inputs": {"input_ids": "ids"},
        "pad": {"input_ids": 1, "bias": 0.5},
    },
]

MODEL_ARGS: dict[str, Any] = {"graph": [{"stage": "a", "onnx": "m.onnx"}]}


def embed(**args: Any) -> FunctionSpec:
    """A function of two stages."""
    return FunctionSpec.from_args("embed", "/v2/models/embed", {"graph": GRAPH, **args})


def problems_of(**args: Any) -> list[tuple[str, str]]:
    """What is wrong with these args: where, and the full text."""
    return [
        (format_path(issue.path) or "args", issue.message)
        for issue in validate_all(FunctionArgs, args)[1]
    ]


def places_of(**args: Any) -> list[str]:
    """Where these args are wrong."""
    return [where for where, _ in problems_of(**args)]


def test_defaults_are_those_of_the_design() -> None:
    """A graph is all that has to be written."""
    spec = embed()
    assert (spec.tier, spec.description, spec.slo.latency_p95_ms, spec.example) == (
        "auto",
        "",
        None,
        None,
    )
    assert (
        spec.autoscaling.min_replicas,
        spec.autoscaling.max_replicas,
        spec.autoscaling.initial_replicas,
    ) == (0, 1, None)
    assert (
        spec.limits.max_ongoing_requests,
        spec.limits.max_queued_requests,
        spec.limits.max_rows,
    ) == (128, 256, 1024)
    assert (spec.resources.num_cpus, spec.resources.num_gpus, spec.resources.providers) == (
        1,
        0,
        None,
    )
    assert spec.batching == BatchingSpec()


def test_a_bare_model_is_a_graph_of_one_stage() -> None:
    """``onnx: path`` with nothing else."""
    spec = FunctionSpec.from_args(
        "m", "/m", {"onnx": "pypi:some-model==1.0/a/m.onnx", "sha256": SHA.upper()}
    )
    assert spec.graph == (
        StageSpec(stage="model", onnx="pypi:some-model==1.0/a/m.onnx", sha256=SHA),
    )


def test_args_written_out_read_back_equal() -> None:
    """Also through JSON, as Ray hands them over."""
    spec = embed(
        resources={"num_gpus": 0.25, "providers": ["CUDAExecutionProvider"]},
        slo={"latency_p95_ms": 50},
        example={"text": ["a", None]},
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
    pad=st.dictionaries(
        st.text(max_size=5),
        st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False),
        max_size=3,
    ),
)
def test_every_declaration_survives_the_round_trip(
    batching: dict[str, Any], num_gpus: float, pad: dict[str, float]
) -> None:
    """Whatever was declared, its args declare the same, and the same is one identity."""
    graph = [{"stage": "model", "onnx": "m.onnx", "pad": pad}]
    spec = FunctionSpec.from_args(
        "a", "/a", {"graph": graph, "batching": batching, "resources": {"num_gpus": num_gpus}}
    )
    again = FunctionSpec.from_args("a", "/a", json.loads(json.dumps(spec.to_args())))
    assert again == spec
    assert version_hash(again) == version_hash(spec)


def test_identity_is_what_needs_a_restart() -> None:
    """Graph and resources change it, what is tunable does not."""
    spec = embed()
    assert version_hash(spec) == version_hash(
        embed(
            batching={"max_batch_size": 8},
            limits={"max_rows": 5},
            description="x",
            autoscaling={"max_replicas": 3},
        )
    )


CALLEE: dict[str, Any] = {"route_prefix": "/g", "digest": "1", "takes": {}, "gives": {}}
ADDED: dict[str, Any] = {
    "made_of": {"code": "1"},
    "secrets": {"TOKEN": "1"},
    "calls": {"g": CALLEE},
}


@pytest.mark.parametrize(
    "changed",
    [
        {"resources": {"num_cpus": 2}},
        {"graph": GRAPH[:1]},
        {"accepts": ["text/plain"]},
        {"deployed": {**ADDED, "made_of": {"code": "2"}}},
        {"deployed": {**ADDED, "secrets": {"TOKEN": "2"}}},
        {"deployed": {**ADDED, "calls": {"g": {**CALLEE, "takes": {"t": {"datatype": "BYTES"}}}}}},
        {"deployed": {**ADDED, "calls": {"g": {**CALLEE, "gives": {"t": {"datatype": "BYTES"}}}}}},
        {"deployed": {**ADDED, "calls": {"h": CALLEE}}},
    ],
)
def test_what_a_running_replica_cannot_change_is_another_version(changed: dict[str, Any]) -> None:
    """Its code, its secrets and how it calls others, too: a replica that goes on would have the
    former ones. Where others are called it is told while it runs.
    """
    before = version_hash(embed(deployed=ADDED))
    assert before != version_hash(embed(**{"deployed": ADDED, **changed}))
    for same in ({"digest": "2"}, {"route_prefix": "/other"}):
        other = embed(deployed={**ADDED, "calls": {"g": {**CALLEE, **same}}})
        assert version_hash(other) == before


def test_a_version_stays_from_release_to_release() -> None:
    """These are written down: with others an update would restart every replica."""
    callee = {
        **CALLEE,
        "takes": {"text": {"datatype": "BYTES"}},
        "gives": {"v": {"datatype": "FP32"}},
    }
    added = {"made_of": {"code": "1"}, "secrets": {"TOKEN": "2"}, "calls": {"g": callee}}
    assert version_hash(embed()) == "440563f07c0c7837"
    assert version_hash(embed(deployed=added)) == "d9b1135b2dc0f96f"


def test_a_function_has_each_declaration_below_it_once() -> None:
    """Of sixteen pairs of functions that each call both of the pair below, and as they were; on the
    way to another process, too.
    """
    pair = (calling(name="a0"), calling(name="b0", description="another"))
    for level in range(1, 17):
        pair = (calling(*pair, name=f"a{level}"), calling(*pair, name=f"b{level}", tier="own"))
    top = calling(*pair)
    assert len(top.all_called) == len(top.deployed.declarations) == 34
    assert top.called("a16") == pair[0]
    assert top.called("a16").called("b15").called("a14") == pair[0].called("a15").called("a14")
    args = json.loads(json.dumps(top.to_args()))
    assert FunctionSpec.from_args("f", top.route_prefix, args) == top
    assert len(json.dumps(args)) < 200_000


def test_what_changes_below_is_seen_above() -> None:
    """By the digest: a caller is declared otherwise where a function that it calls is, through
    others as well; and not where that is only made of something else.
    """

    def top(leaf: FunctionSpec) -> dict[str, Any]:
        return calling(calling(leaf, name="middle")).to_args()

    leaf = calling(name="leaf")
    before = top(leaf)
    assert top(calling(name="leaf", limits={"max_rows": 5})) != before
    assert top(leaf.with_deployed(part_of="g")) != before
    assert top(leaf.with_deployed(made_of={"code": "2"}, secrets={"A": "b"})) == before


def test_a_user_writes_no_key_of_a_command() -> None:
    """Neither as a function of a file nor with a right value."""
    for key in FunctionArgs.COMMAND_KEYS:
        with pytest.raises(ValidationError, match=key):
            DeclaredSpec.from_args("f", "/f", {**MODEL_ARGS, key: {}})
    assert "deployed" not in DeclaredSpec.from_args("f", "/f", MODEL_ARGS).to_args()


def test_a_hash_is_of_what_is_said_and_not_of_its_order() -> None:
    """On every machine; and this one is written down: another would restart every replica."""
    one, other = {"a": 1, "b": [{"c": 2, "d": "é"}]}, {"b": [{"d": "é", "c": 2}], "a": 1}
    assert hash_of(one) == hash_of(other) == "3ec6a8c367db939a"
    assert hash_of(one) != hash_of({**one, "b": [{"c": 3, "d": "é"}]})


def test_live_settings_are_replaced_and_checked() -> None:
    """Sections not named stay; a section that takes a restart is refused."""
    spec = embed(limits={"max_rows": 7})
    assert with_live_settings(embed(), live_settings(spec)) == spec
    assert with_live_settings(spec, {"batching": {"max_batch_size": 64}}).limits.max_rows == 7
    with pytest.raises(ValueError, match=r"^graph .*batching, limits, slo, capture, sequences"):
        with_live_settings(spec, {"graph": []})
    with pytest.raises(ValidationError, match="max_batch_size"):
        with_live_settings(spec, {"batching": {"max_batch_size": 1000}})


def test_a_name_among_the_args_is_refused() -> None:
    """Name and prefix are next to the args, as in Ray."""
    with pytest.raises(ValidationError, match="name"):
        embed(name="other")


def test_a_key_has_one_spelling_in_a_file() -> None:
    """Python's ``with_`` is Python's."""
    ((where, message),) = problems_of(graph=[{"stage": "a", "python": "a:b", "with_": {}}])
    assert where == "graph[0].with_"
    expect_values(message, "with?")
    assert StageSpec(stage="a", python="a:b", with_={"x": 1}) == StageSpec.model_validate(
        {"stage": "a", "python": "a:b", "with": {"x": 1}}
    )


@pytest.mark.parametrize(
    ("stage", "where"),
    [
        (
            {"stage": "a"},
            "graph[0]",
        ),
        (
            {"stage": "a", "python": "a:b", "onnx": "m.onnx"},
            "graph[0].onnx",
        ),
        ({"onnx": "m.onnx"}, "graph[0].stage"),
        ({"stage": "a", "onx": "m.onnx"}, "graph[0].onx"),
        (
            {"stage": "a-b", "onnx": "m.onnx"},
            "graph[0].stage",
        ),
        (
            {"stage": "if", "onnx": "m.onnx"},
            "graph[0].stage",
        ),
        (
            {"stage": "a", "python": "apps.embed"},
            "graph[0].python",
        ),
        (
            {"stage": "a", "python": "apps/embed.py:f"},
            "graph[0].python",
        ),
        (
            {"stage": "a", "python": "a:b:c"},
            "graph[0].python",
        ),
        (
            {"stage": "a", "python": "os:system"},
            "graph[0].python",
        ),
        (
            {"stage": "a", "python": "os.path:join"},
            "graph[0].python",
        ),
        (
            {"stage": "a", "onnx": "m.onnx", "with": {"a": 1}},
            "graph[0].with",
        ),
        (
            {"stage": "a", "python": "a:b", "pad": {"x": 0}},
            "graph[0].pad",
        ),
        (
            {"stage": "a", "python": "a:b", "rows": False},
            "graph[0].rows",
        ),
        (
            {"stage": "a", "python": "a:b", "sha256": SHA},
            "graph[0].sha256",
        ),
        (
            {"stage": "a", "onnx": "m.onnx", "pad": {"x": "0"}},
            "graph[0].pad.x",
        ),
        (
            {"stage": "a", "onnx": "m.onnx", "pad": {"x": True}},
            "graph[0].pad.x",
        ),
        (
            {"stage": "a", "onnx": "m.onnx", "sha256": "abc"},
            "graph[0].sha256",
        ),
        (
            {"stage": "a", "onnx": "hf:org/repo@main/m.onnx"},
            "graph[0].onnx",
        ),
        (
            {"stage": "a", "onnx": "hf:repo/m.onnx", "sha256": SHA},
            "graph[0].onnx",
        ),
        (
            {"stage": "a", "onnx": "pypi:a/m.onnx", "sha256": SHA},
            "graph[0].onnx",
        ),
        ({"stage": "a", "onnx": "ftp://host/m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https://host/m.pt"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https://user:hidden@host/m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https://host/m.onnx?X-Signature=hidden"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https://host/a/../m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https:///m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "https://host"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "s3://x/m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "S3://bucket/m.onnx"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "mlflow:models:/churn@champion"}, "graph[0].onnx"),
        ({"stage": "a", "onnx": "mlflow:models:/churn/Production"}, "graph[0].onnx"),
        (
            {"stage": "a", "onnx": "m.onnx", "sha256": SHA, "weights": {"m.data": SHA}},
            "graph[0].weights",
        ),
        (
            {"stage": "a", "onnx": "s3://bucket/m.onnx", "weights": {"m.data": SHA}},
            "graph[0].weights",
        ),
        ({"stage": "a", "onnx": "m.pt"}, "graph[0].onnx"),
        (
            {"stage": "a", "onnx": "$MODELS/m.onnx"},
            "graph[0].onnx",
        ),
        (7, "graph[0]"),
        ({"stage": "a", "python": "a:b", "threads": 0}, "graph[0].threads"),
        ({"stage": "a", "python": "a:b", "threads": 257}, "graph[0].threads"),
        ({"stage": "a", "python": "a:b", "threads": 1.5}, "graph[0].threads"),
        ({"stage": "a", "onnx": "m.onnx", "threads": 4}, "graph[0].threads"),
        ({"stage": "a", "function": "g", "threads": 4}, "graph[0].threads"),
        ({"stage": "a", "python": "a:b", "stream": True}, "graph[0].stream"),
        ({"stage": "a", "python": "a:b", "stream": True, "ordered": False}, "graph[0].stream"),
        (
            {"stage": "a", "python": "a:b", "each": "x", "stream": True, "when": "y"},
            "graph[0].when",
        ),
        ({"stage": "a", "python": "a:b", "each": "x", "ordered": False}, "graph[0].ordered"),
    ],
)
def test_an_impossible_signature_is_refused(stage: Any, where: str) -> None:
    """One sentence, at the key that is wrong."""
    assert places_of(graph=[stage]) == [where]


@pytest.mark.parametrize(
    "path", ["../m.onnx", "/m.onnx", "~/m.onnx", "a/../../m.onnx", "a//m.onnx"]
)
def test_a_model_lies_within_its_folder(path: str) -> None:
    """In a local path, within a package and at an address alike."""
    for onnx in (path, f"pypi:a==1/{path}", f"s3://bucket/{path}"):
        assert places_of(onnx=onnx, sha256=SHA) == ["onnx"]


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (
            {"batching": {"max_batch_size": "thirty-two"}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_batch_size": 2.5}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_batch_size": True}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_batch_size": None}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_batch_size": [1]}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_batch_size": 0}},
            "batching.max_batch_size",
        ),
        (
            {"batching": {"max_padding": 1.5}},
            "batching.max_padding",
        ),
        (
            {"batching": {"batch_wait_timeout_s": float("inf")}},
            "batching.batch_wait_timeout_s",
        ),
        ({"batching": []}, "batching"),
        (
            {"description": 1.0},
            "description",
        ),
        (
            {"max_batch_size": 8},
            "max_batch_size",
        ),
        (
            {"resources": {"max_rows": 8}},
            "resources.max_rows",
        ),
        (
            {"batching": {"max-batchsize": 8}},
            "batching.max-batchsize",
        ),
        ({"slo": {"speed": 8}}, "slo.speed"),
        ({"slo": {"latency_p50_ms": 51, "latency_p95_ms": 50}}, "slo.latency_p50_ms"),
        ({"slo": {"latency_p95_ms": 51, "latency_p99_ms": 50}}, "slo.latency_p95_ms"),
        ({"slo": {"latency_p50_ms": 51, "latency_p99_ms": 50}}, "slo.latency_p50_ms"),
        ({"capture": {"rate": 1, "omitt": ["x"]}}, "capture.omitt"),
        ({"capture": {"omit": ["x", "y", "x"]}}, "capture.omit[2]"),
        ({"capture": {"omit": "x"}}, "capture.omit"),
        ({"deployed": {"made_of": {"code": "1"}}}, "deployed"),
        ({"calls": {"g": {}}}, "calls"),
        ({"part_of": "g"}, "part_of"),
        ({"secrets": {"TOKEN": "1"}}, "secrets"),
        ({"made_of": None}, "made_of"),
        ({"tier": "shared"}, "tier"),
        ({"task": "embeding"}, "task"),
        ({"model": "models/mine", "task": "embedding"}, "model"),
        ({"model": "hf:acme/tiny@main", "task": "embedding"}, "model"),
        ({"model": "hf:acme/tiny", "task": "embedding"}, "model"),
        ({"model": "acme/tiny@v1", "task": "embedding"}, "model"),
        ({"model": "../mine", "task": "embedding"}, "model"),
        ({"quantize": "int8"}, "quantize"),
        ({"quantize": "int4"}, "quantize"),
        (
            {"limits": {"max_queued_requests": -1}},
            "limits.max_queued_requests",
        ),
        (
            {"limits": {"request_timeout_s": 0}},
            "limits.request_timeout_s",
        ),
        (
            {"resources": {"num_gpus": 1.5}},
            "resources.num_gpus",
        ),
        (
            {"resources": {"device": "cuda"}},
            "resources.device",
        ),
        (
            {"resources": {"providers": ["CUDAExecutionProvider"]}},
            "resources.providers",
        ),
        (
            {"resources": {"gpu_memory_mb": 4000}},
            "resources.gpu_memory_mb",
        ),
        (
            {"resources": {"device": "cpu", "num_gpus": 1}},
            "resources.num_gpus",
        ),
        (
            {"resources": {"device": "openvino", "providers": ["OpenVINOExecutionProvider"]}},
            "resources.providers",
        ),
        (
            {"resources": {"device": "gpu"}},
            "resources.device",
        ),
        (
            {"resources": {"providers": []}},
            "resources.providers",
        ),
        (
            {"resources": {"providers": ["CUDA"]}},
            "resources.providers[0]",
        ),
        (
            {"autoscaling": {"min_replicas": 2}},
            "autoscaling.min_replicas",
        ),
        (
            {"autoscaling": {"max_replicas": 0}},
            "autoscaling.max_replicas",
        ),
        (
            {"autoscaling": {"initial_replicas": 3, "max_replicas": 2}},
            "autoscaling.initial_replicas",
        ),
        (
            {"limits": {"max_ongoing_requests": 16}},
            "limits.max_ongoing_requests",
        ),
        (
            {"example": {"a": float("nan")}},
            "example",
        ),
        (
            {"graph": []},
            "args",
        ),
        (
            {"onnx": "m.onnx"},
            "onnx",
        ),
        (
            {"graph": [{"stage": "a", "onnx": "m.onnx"}, {"stage": "a", "onnx": "n.onnx"}]},
            "graph[1].stage",
        ),
    ],
)
def test_impossible_args_are_refused(args: dict[str, Any], where: str) -> None:
    """One sentence, at the key that is wrong."""
    assert places_of(**{**MODEL_ARGS, **args}) == [where]


MISTAKES = {
    "onx": "m.onnx",
    "batching": {"max_batch_size": 256},
    "autoscaling": {"min_replicas": 3, "max_replicas": "two"},
}


@pytest.mark.parametrize(
    ("section", "key", "taken", "refused"),
    [
        ("limits", "request_timeout_s", [0.001, 3600.0], [0, 3600.1]),
        ("limits", "item_timeout_s", [0.001, 3600.0], [0, 3600.1]),
        ("limits", "max_body_bytes", [1], [0]),
        ("limits", "max_queued_requests", [1], [0]),
        ("limits", "max_fan_out", [1], [0]),
        ("sequences", "idle_timeout_s", [0.001, 86400.0], [0, 86400.1]),
        ("sequences", "max_sequences", [1], [0]),
        ("batching", "batch_wait_timeout_s", [0.0, 60.0], [-0.1, 60.1]),
        ("batching", "max_padding", [0.0, 1.0], [-0.1, 1.1]),
        ("batching", "max_batch_size", [1, 128], [0, 129]),
        ("resources", "num_gpus", [0.25, 1, 2], [-1, 1.5, 2.5]),
        ("autoscaling", "downscale_to_zero_delay_s", [0.0], [-0.1]),
        ("autoscaling", "initial_replicas", [0, 1], [-1, 2]),
        ("slo", "latency_p50_ms", [0.001], [0]),
        ("slo", "latency_p95_ms", [0.001], [0]),
        ("slo", "latency_p99_ms", [0.001], [0]),
        ("slo", "success", [0.001, 1.0], [0, 1.1, 99.9]),
        ("slo", "warm", [0.001, 1.0], [0, 1.1, 95]),
        ("capture", "rate", [0, 0.5, 1], [-0.1, 1.1]),
        ("capture", "keep", [4, 1_000_000], [3, 1_000_001]),
        ("capture", "keep_mb", [4, 1024], [3, 1025]),
        ("capture", "keep_s", [60, 31_536_000.0], [59, 31_536_001]),
        ("capture", "answer", ["digest", "full"], ["none"]),
    ],
)
def test_a_bound_is_where_it_is_said_to_be(
    section: str, key: str, taken: list[float], refused: list[float]
) -> None:
    """The last that is taken, and the first that is not: an update and HAProxy wait for the longest
    deadline that there may be.
    """
    for value in taken:
        assert problems_of(**MODEL_ARGS, **{section: {key: value}}) == [], value
    for value in refused:
        assert places_of(**MODEL_ARGS, **{section: {key: value}}) == [f"{section}.{key}"], value


@pytest.mark.parametrize(
    ("num_cpus", "workers"), [(0, 1), (0.5, 1), (1, 1), (1.9, 1), (2, 2), (2.5, 2), (64, 64)]
)
def test_a_replica_has_a_worker_for_each_whole_cpu(num_cpus: float, workers: int) -> None:
    """And one at least: more would run beside each other on a core."""
    assert worker_count(num_cpus) == workers


def test_one_mistake_hides_no_other() -> None:
    """A comparison of two keys is made although a third is misspelt, and not made with a key that
    is itself wrong.
    """
    assert places_of(**MISTAKES) == [
        "onx",
        "autoscaling.max_replicas",
        "batching.max_batch_size",
    ]
