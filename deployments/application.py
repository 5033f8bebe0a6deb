"""One function as a Ray Serve application: what it declares, as Ray's options."""

from __future__ import annotations

from typing import Any, Final

from ray import serve

from deployments.replica import DRAIN_LOOP_S, Replica
from runtime.onnx.options import workers
from runtime.spec import FunctionSpec, tunables

HEALTH_CHECKS: Final[dict[str, Any]] = {"health_check_period_s": 1.0, "health_check_timeout_s": 1.5}
"""Ray replaces whoever fails three checks in a row: six seconds after its event loop has hung, which no load on the machine has done. At
Ray's own 10 and 30 s it takes a minute and a half. A process that was stopped is found earlier, by ``watchdog``."""

SURGE_PERCENT: Final = 25
"""Of its replicas, rounded up, a function may have so many more while a new version replaces the old: at Ray's 0 the old one stops first,
and callers wait for a cold start; at 100 all new ones start at once, and take the cores from those that answer."""

RECORD_S = 0.2
"""How often a replica notes its numbers; the controller looks as often (``rayenv``)."""

METRICS_INTERVAL_S = 0.4
"""How often a replica tells the controller what it noted. With a note before and a tick of the controller after, a step is decided
within 0.8 s; telling once a second instead would save 0.2 % of a core a replica, in the controller, and nothing in the replica. At Ray's
defaults (10 s, over 30 s) a function at zero waits up to 16 s before its wake begins."""

LOGGING = {"enable_access_log": False, "log_level": "WARNING"}
"""Ray's access log is flushed on the event loop: a stall of 20 ms each 1,000 requests. At INFO its line is built for each request
even when it is switched off."""


def application(spec: FunctionSpec, *, owner: str = "", is_named: bool = True) -> serve.Application:
    """A function's application; batching and limits travel as ``user_config`` and change in place.

    Args:
        is_named: whether the name and the prefix of ``spec`` are the function's.
        owner: the application that owns placement, told what the replicas do; empty when there is none.
    """
    return _deployment(options(spec)).bind(spec.to_args(), spec.route_prefix if is_named else "", owner)


def promoted(spec: FunctionSpec, *, owner: str, why: str) -> serve.Application:
    """The same for a function that leaves the shared host: one replica at least, since its owner takes it back when it is idle, and
    a replica that has gone to sleep behind its prefix would wake as slowly as Ray does."""
    chosen = options(spec)
    scaling = chosen["autoscaling_config"]
    scaling["min_replicas"] = max(1, scaling["min_replicas"])
    scaling["initial_replicas"] = max(1, scaling["initial_replicas"])
    return _deployment(chosen).bind(spec.to_args(), spec.route_prefix, owner, why)


def _deployment(chosen: dict[str, Any]) -> serve.Deployment:
    return serve.deployment(name="Function", max_constructor_retry_count=1, **chosen)(serve.ingress()(Replica))


def options(spec: FunctionSpec) -> dict[str, Any]:
    """Ray's deployment options for a declaration.

    The replica admits and refuses by itself, in our error form and with the queue it knows, so Ray is told the sum of both limits:
    then nothing waits unseen before the replica, and the autoscaler counts what does wait.
    """
    resources, limits, scaling = spec.resources, spec.limits, spec.autoscaling
    actor: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_mb is not None:
        actor["memory"] = resources.memory_mb * 1024 * 1024
    return {
        "ray_actor_options": actor,
        "max_ongoing_requests": limits.max_ongoing_requests + limits.max_queued_requests + 1,
        "user_config": tunables(spec),
        "autoscaling_config": {
            "min_replicas": scaling.min_replicas,
            "initial_replicas": scaling.min_replicas if scaling.initial_replicas is None else scaling.initial_replicas,
            "max_replicas": scaling.max_replicas,
            # The delays are the policy's (`autoscale`), which knows what is worth waiting for; Ray would add its own on top.
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "downscale_to_zero_delay_s": 0,
            "policy": {
                "policy_function": "deployments.autoscale:Policy",
                "policy_kwargs": {
                    "bounds": bounds(spec),
                    "needs": needs(actor),
                    "prefix": spec.route_prefix,
                    "timeout_s": limits.request_timeout_s,
                    "name": spec.name,
                },
            },
            "metrics_interval_s": METRICS_INTERVAL_S,
            "look_back_period_s": 5 * RECORD_S,  # Ray notes five times in it
        },
        **HEALTH_CHECKS,
        "max_surge_percent": SURGE_PERCENT,
        "graceful_shutdown_timeout_s": limits.request_timeout_s + 5,
        "graceful_shutdown_wait_loop_s": DRAIN_LOOP_S,
        "logging_config": LOGGING,
    }


def bounds(spec: FunctionSpec) -> dict[str, Any]:
    """What the policy knows of a function, as plain data: fields of ``runtime.demand.Bounds``; the numbers of replicas come from Ray."""
    scaling, limits = spec.autoscaling, spec.limits
    return {
        "workers": workers(spec.resources.num_cpus),
        "max_ongoing_requests": limits.max_ongoing_requests,
        "max_batch_size": spec.batching.max_batch_size,
        "target_ongoing_requests": scaling.target_ongoing_requests,
        "slo_p95_ms": spec.slo.latency_p95_ms,
        "upscale_delay_s": scaling.upscale_delay_s,
        "downscale_delay_s": scaling.downscale_delay_s,
        "downscale_to_zero_delay_s": scaling.downscale_to_zero_delay_s,
    }


def needs(actor: dict[str, Any]) -> dict[str, float]:
    """What a replica takes, by the names that Ray gives resources."""
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    return {name: float(actor[key]) for name, key in names.items() if actor.get(key)}
