"""How many replicas a function wants: calls in flight over what one replica should have, as Ray's own policy, from our own count.

Calls do not pass through Ray Serve's request handling (``edge``), so its count of ongoing requests does not see them. Ray applies the
declared bounds and delays around the policy, and wakes a function at zero before it is asked.
"""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

METRIC = "calls_in_flight"
"""What each replica records (``Replica.record_autoscaling_stats``); Ray averages it over the look-back period."""


def policy(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Wanted replicas, before bounds and delays; no state is kept."""
    by_replica = (context.aggregated_metrics or {}).get(METRIC, {})
    in_flight = sum(by_replica.values()) + context.total_queued_requests
    if not by_replica or context.config is None:
        return context.target_num_replicas, {}
    return in_flight / context.config.get_target_ongoing_requests(), {}
