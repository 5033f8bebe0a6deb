"""Whether the ``wakeful run`` of this container or machine answers: ``python -m
deployments.local.health``, with its exit status. With TLS it is asked where a client needs no
certificate.
"""

from __future__ import annotations

import sys

from deployments.local.runs import inner_socket, live_runs
from deployments.ray_support.state_dir import StateDir
from deployments.rollout.catalogue_client import is_live


def is_healthy(state_dir: StateDir) -> bool:
    """Whether every run of this user answers, and there is one."""
    runs = live_runs(state_dir)
    return bool(runs) and all(is_live(run.url, inner_socket(state_dir, run)) for run in runs)


if __name__ == "__main__":
    sys.exit(not is_healthy(StateDir()))
