"""The names that other tools have lead to ours, and what they lead to is there."""

from __future__ import annotations

import re

import pytest

from deployments.cli import COMMANDS
from runtime.declaration.function_spec import FunctionArgs
from runtime.declaration.ray_schema import ServeConfig
from runtime.declaration.validation import known_keys
from runtime.system import peer_names
from runtime.system.messages import KnownPaths, meant_key, unknown_key_message
from runtime.system.peer_names import KEYS, PATHS, command_advice, key_advice, path_advice

ARGS = known_keys(FunctionArgs)
EVERY_KEY = {
    key
    for model in (FunctionArgs, ServeConfig)
    for section in [(), *((key,) for key in known_keys(model)), ("applications",)]
    for key in known_keys(model, section)
} | {"host", "port", "cors", "tls", "cert", "key", "stage", "python"}


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        ("serve", "`wakeful run`"),
        ("start", "`wakeful up`"),
        ("deploy", "`wakeful up`"),
        ("Build", "nothing is built"),
        ("ps", "`wakeful status`"),
        ("predict", "`wakeful call"),
        ("run", ""),
    ],
)
def test_a_command_of_another_tool_leads_to_ours(typed: str, there: str) -> None:
    """In any case of letters; a command of ours has no advice."""
    assert there in command_advice(typed)
    assert bool(there) == bool(command_advice(typed))


def test_no_command_of_ours_is_taken_for_one_of_another_tool() -> None:
    """And every command that is offered is one."""
    assert not peer_names.COMMANDS.keys() & COMMANDS.keys()
    for advice in peer_names.COMMANDS.values():
        for name in re.findall(r"`wakeful ([a-z]+)", advice):
            assert name in COMMANDS, advice


@pytest.mark.parametrize(
    ("typed", "there"),
    [
        ("max_latency_ms", "`batching: {batch_wait_timeout_s"),
        ("batch_timeout", "`batching: {batch_wait_timeout_s"),
        ("max_queue_delay_microseconds", "in seconds"),
        ("preferred_batch_size", "`batching: {max_batch_size"),
        ("workers_per_device", "`autoscaling: {min_replicas"),
        ("instance_group", "`autoscaling: {min_replicas"),
        ("replicas", "`autoscaling: {min_replicas"),
        ("timeout", "`limits: {request_timeout_s"),
        ("route", "`route_prefix`"),
        ("stages", "`graph`"),
        ("services", "`applications`"),
        ("storageUri", "`onnx: PATH`"),
    ],
)
def test_a_key_of_another_tool_leads_to_ours(typed: str, there: str) -> None:
    """Before one that is spelled alike."""
    message = unknown_key_message(typed, ARGS)
    assert there in message
    assert "did you mean" not in message


def test_every_key_that_is_offered_is_there() -> None:
    """With the keys within it."""
    for advice in KEYS.values():
        for written in re.findall(r"`([^`]*)`", advice):
            for key in re.findall(r"(\w+)(?=:(?: |$))|^(\w+)$", written):
                assert (key[0] or key[1]) in EVERY_KEY | {"module", "with", "NAME", "__init__"}, (
                    advice
                )


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("input", ["inputs", "outputs"], "inputs"),
        ("stages", ["stage", "python"], "stage"),
        ("stages", ["graph", "task"], "graph"),
        ("max_latency_ms", ["max_batch_size"], None),
        ("exampel", ["example"], "example"),
    ],
)
def test_a_slip_of_the_pen_goes_before_the_table(
    typed: str, known: list[str], meant: str | None
) -> None:
    """What is meant by a key is looked at once, so that it is not also called missing."""
    assert meant_key(typed, known) == meant


@pytest.mark.parametrize(
    ("path", "there"),
    [
        *(
            (path, "/v2/health/live")
            for path in ("/healthz", "/health", "/ping", "/livez", "/ready/")
        ),
        ("/v2/models", "/v2/repository/index"),
        *(
            (path, "POST at /v2/models/iris.")
            for path in ("/predict", "/predictions/iris", "/invocations")
        ),
        ("/v1/models/iris:predict", "POST at /v2/models/iris."),
        ("/metrics/prometheus", "/metrics."),
        ("/redoc", "/docs"),
        ("/v1/chat/completions", "no route here"),
        ("/v2/models/irsi", ""),
        ("/" + "a" * 100_000, ""),
    ],
)
def test_a_path_of_another_server_leads_to_ours(path: str, there: str) -> None:
    """Of two functions the one that is named; of one, that one."""
    advice = path_advice(path, KnownPaths(["/v2/models/iris"]).meant_by)
    assert there in advice
    assert bool(there) == bool(advice)


def test_of_several_functions_the_named_one_is_offered() -> None:
    """And none, where none is named."""
    meant_by = KnownPaths(["/v2/models/iris", "/v2/models/rose"]).meant_by
    assert path_advice("/predictions/rose", meant_by).endswith("/v2/models/rose.")
    assert path_advice("/predict", meant_by).endswith("/v2/models/NAME.")


def test_no_key_has_two_rows() -> None:
    """What is known here is no other tool's name at the level of a function."""
    assert not set(KEYS) & set(ARGS)
    assert all(advice.endswith(".") for _, advice in PATHS)
    assert not key_advice("no_such_key_anywhere")
