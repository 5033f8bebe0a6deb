"""Ray's messages in a sentence."""

from __future__ import annotations

import pytest

from deployments.observability.status_messages import waiting_reason, waits_for_resources
from tests.problems import expect_values

SCHEDULED = (
    "Deployment 'Function' in application 'c' has 1 replicas that have taken more than 5s "
    "to be scheduled. This may be due to waiting for "
    "the cluster to auto-scale or for a runtime environment to be installed. Resources "
    "required for each replica: {}, total resources "
    "available: {}. Use `ray status` for more details."
)

TRACEBACK = """The deployment failed to start 1 times in a row. Error:
ray::ServeReplica:bad:Function.initialize_and_get_metadata() (pid=7, ip=127.0.0.1)
  File "function.py", line 280, in load
{}
"""


DEATH = """ActorDiedError: The actor died unexpectedly before finishing this task.
	class_name: HAProxyManager
	actor_id: aacb5f49d3582d4f3449bc1d01000000
	pid: 14919
	name: SERVE_PROXY_ACTOR-4908423b782d7bee2edf142696bd27679de9ba73
	namespace: serve
	ip: 127.0.0.1
The actor is dead because it was killed by `ray.kill`."""


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (
            SCHEDULED.format('{"CPU": 1.0, "GPU": 0.5}', '{"CPU": 6.0}'),
            ["1 CPU and 0.5 GPU", "6 CPU and 0 GPU"],
        ),
        (SCHEDULED.format('{"CPU": 1.0}', '{"CPU": 5.0}'), ["starting", "process"]),
        (
            SCHEDULED.format('{"GPU": 0.5}', "{}"),
            ["waits", "0.5 GPU", "0 GPU"],
        ),
        (
            TRACEBACK.format("runtime.errors.LoadError: bad.onnx does not run: no such operator."),
            "bad.onnx does not run: no such operator.",
        ),
        (TRACEBACK.format("ValueError: it is wrong"), "ValueError: it is wrong"),
        (DEATH, ["HAProxyManager", "The actor is dead because it was killed by `ray.kill`."]),
        (f"{DEATH}\nValueError: afterwards", "ValueError: afterwards"),
        ("something new\nthat Ray says", "that Ray says"),
    ],
)
def test_a_message_comes_down_to_its_reason(message, values):
    """What is waited for with numbers; an error without its traceback and as it was raised; our own
    error without its class.
    """
    reason = waiting_reason(message)
    if isinstance(values, str):
        assert reason == values
    else:
        expect_values(reason, *values)
        assert "\n" not in reason


@pytest.mark.parametrize(
    ("wanted", "free", "waits"),
    [
        ('{"CPU": 1.0}', '{"CPU": 0.5}', True),
        ('{"CPU": 1.0}', "{}", True),
        ("{'cat': 1.0}", "{'CPU': 4.0}", True),
        ('{"CPU": 1.0}', '{"CPU": 1.0}', False),
        ("{}", "{}", False),
    ],
)
def test_a_replica_with_free_resources_waits_for_its_process_only(wanted, free, waits):
    """Ray says the same of both."""
    assert waits_for_resources(SCHEDULED.format(wanted, free)) is waits


def test_without_a_message_the_declared_resources_are_named():
    """Ray says nothing for its first seconds."""
    reason = waiting_reason("", {"num_cpus": 1.0, "num_gpus": 0.5})
    expect_values(reason, "waits", "1 CPU and 0.5 GPU")
