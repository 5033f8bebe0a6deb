"""Pages: a run (the verdict in words, latency over time with what the server did beneath, the
distribution, where the time went, errors, the generator, and the run that it is compared with) and
a plan (what is promised beside what comes, cost, and replicas, rate, p95 and warm share over time).

Each is one HTML file that asks nothing of the network, has light and dark colours, can be read on a
phone, and has its numbers in tables that need no script. Called by ``wakeful loadtest`` and
``wakeful plan``; may import ``results`` and ``scaling.planning``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployments.loadtest.results.records import Run
from deployments.loadtest.results.verdict import Verdict
from deployments.scaling.planning.profiles import Profile
from deployments.scaling.planning.traffic_plan import TrafficPlan
from runtime.system.files import write_whole


def write_report(run: Run, verdict: Verdict, path: Path, against: Run | None = None) -> None:
    """Writes the report; the file is the old or the new one, whole.

    Args:
        verdict: of the run.
        path: of the file; its folder is made where it is missing.
        against: an earlier run, which this one is compared with.

    Raises:
        ModuleNotFoundError: matplotlib or jinja2 is missing; both are in the extra ``[load]``.
        OSError: the file cannot be written.
    """
    from deployments.loadtest.report.page import render  # matplotlib takes half a second

    write_whole(path, render(run, verdict, against))


def write_plan(plan: TrafficPlan, profile: Profile, doubts: Sequence[str], path: Path) -> None:
    """Writes a plan as ``write_report`` writes a run.

    Args:
        profile: that it was made of.
        doubts: why the profile's numbers may be of something else.

    Raises:
        ModuleNotFoundError, OSError: as of ``write_report``.
    """
    from deployments.loadtest.report.plan_page import render_plan

    write_whole(path, render_plan(plan, profile, doubts))
