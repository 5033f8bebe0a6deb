"""One function as a Ray Serve application: its declaration as Ray's options."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ray import serve

from deployments.ingress.haproxy.rules import FUNCTION, ONCE
from deployments.ingress.wake_signal import ReplayTerms
from deployments.ray_support.deadlines import DRAIN_LOOP_S, stop_s
from deployments.ray_support.ray_internals import surge_options
from deployments.scaling.demand import declared_limits
from deployments.serving.replica import CALLEES, Replica
from runtime.declaration.function_spec import FunctionSpec, live_settings
from runtime.declaration.sections import worker_count
from runtime.execution.admission import admission_limits_of

HEALTH_CHECKS: Final[dict[str, Any]] = {"health_check_period_s": 1.0, "health_check_timeout_s": 1.5}
"""Ray replaces a process that fails three checks in a row: six seconds after its event loop hangs
or it is stopped; no load on the machine has caused that. At Ray's own 10 and 30 s it takes a minute
and a half.
"""

SURGE_PERCENT: Final = 25
"""Percentage of its replicas, rounded up, that a function may have in addition while a new version
replaces the old: at Ray's 0 the old one stops first, and clients wait for a cold start; at 100 all
new ones start at once, and take the cores from those that answer.
"""

RECORD_S = 0.2
"""How often a replica records its numbers; the controller runs as often
(``ray_support.environment``).
"""

METRICS_INTERVAL_S = 0.4
"""How often a replica sends the controller what it recorded. With a record before and a tick of the
controller after, a step is decided within 0.8 s; once a second instead would save 0.2 % of a core a
replica, in the controller, and nothing in the replica. At Ray's defaults (10 s, over 30 s) a
function at zero waits up to 16 s before its wake begins.
"""

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Ray's access log is flushed on the event loop: a stall of 20 ms each 1,000 requests. At INFO its
line is built for each request even when it is switched off."""


def build_application(
    spec: FunctionSpec, *, owner: str = "", is_named: bool = True
) -> serve.Application:
    """Return a function's application. Batching, limits and where it finds the functions that it
    calls are its ``user_config``, which changes in place.

    Args:
        is_named: whether the name and the prefix of ``spec`` are the function's.
        owner: the application of the placement controller, which gets the replicas' reports; empty
            when there is none.
    """
    return _deployment(deployment_options(spec)).bind(
        spec.to_args(), spec.route_prefix if is_named else "", owner
    )


def promoted_application(spec: FunctionSpec, *, owner: str, why: str) -> serve.Application:
    """Return the application of a function that leaves the shared host. It has one replica at
    least: the placement controller demotes it when it is idle, and a deployment at zero would wake
    as slowly as Ray does.
    """
    options = deployment_options(spec)
    scaling = options["autoscaling_config"]
    scaling["min_replicas"] = max(1, scaling["min_replicas"])
    scaling["initial_replicas"] = max(1, scaling["initial_replicas"])
    return _deployment(options).bind(spec.to_args(), spec.route_prefix, owner, why)


def _deployment(options: dict[str, Any]) -> serve.Deployment:
    return serve.deployment(max_constructor_retry_count=1, **options)(serve.ingress()(Replica))


def deployment_options(spec: FunctionSpec) -> dict[str, Any]:
    """Return Ray's deployment options for a declaration.

    The replica admits and refuses by itself, in our error form and with the queue it knows, so Ray
    gets the sum of both limits: then no call waits unseen before the replica, and the autoscaler
    counts those that do wait.
    """
    resources, limits, scaling = spec.resources, spec.limits, spec.autoscaling
    actor: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_mb is not None:
        actor["memory"] = resources.memory_mb * 1024 * 1024
    return {
        "name": FUNCTION if limits.replay else ONCE,
        "ray_actor_options": actor,
        "max_ongoing_requests": limits.max_ongoing_requests + limits.max_queued_requests + 1,
        "user_config": {
            **live_settings(spec),
            CALLEES: {name: list(callee.prefixes) for name, callee in spec.deployed.calls.items()},
        },
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": scaling.min_replicas
            if scaling.initial_replicas is None
            else scaling.initial_replicas,
            "max_replicas": scaling.max_replicas,
            # The delays are the policy's (`scaling`), which knows what is worth waiting for; Ray
            # would add its own.
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "downscale_to_zero_delay_s": 0,
            "policy": {
                "policy_function": "deployments.scaling.serve_policy:ServePolicy",
                "policy_kwargs": {
                    "limits": declared_limits(spec, worker_count(spec.resources.num_cpus)),
                    "needs": resources_needed(actor),
                    "prefix": spec.route_prefix,
                    "terms": asdict(replay_terms(spec)),
                    "awake": scaling.awake,
                },
            },
            "metrics_interval_s": METRICS_INTERVAL_S,
            "look_back_period_s": 5 * RECORD_S,  # Ray records five times in it
        },
        **HEALTH_CHECKS,
        **surge_options(SURGE_PERCENT),
        "graceful_shutdown_timeout_s": stop_s(limits.request_timeout_s),
        "graceful_shutdown_wait_loop_s": DRAIN_LOOP_S,
        "logging_config": LOGGING,
    }


def replay_terms(spec: FunctionSpec) -> ReplayTerms:
    """Return what may wait while there is no replica: calls and bytes that one would admit."""
    limits, capacity = spec.limits, admission_limits_of(spec)
    return ReplayTerms(
        limits.request_timeout_s,
        limits.max_body_bytes,
        capacity.calls,
        capacity.bytes,
        limits.replay,
        spec.name,
    )


def resources_needed(actor: dict[str, Any]) -> dict[str, float]:
    """Return the resources of a replica, by Ray's names."""
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    return {name: float(actor[key]) for name, key in names.items() if actor.get(key)}
