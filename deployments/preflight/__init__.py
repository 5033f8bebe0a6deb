"""Loads every function once in a bounded process of its own, so that ``up`` finds a broken one
before its first call. Called by ``cli`` and ``rollout``. May import ``runtime``; no Ray.

    up ── load_all_once (run) ── known? ─ yes ─▶ result
                                  └ no ─▶ fork_server: one process with everything imported
                                            └ fork ─▶ load_job: prepares the models, then loads
"""

from deployments.preflight.load_all import LoadResult, ProbeProgress, load_all_once

__all__ = ["LoadResult", "ProbeProgress", "load_all_once"]
