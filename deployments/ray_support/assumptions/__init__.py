"""What Wakeful takes for granted of Ray's inside, in named entries (``ASSUMPTIONS``): of its core,
of Serve, of what both write, of the variables that they read. Each is looked at on the oldest and
the newest release that is taken; a check imports Ray when it is called.

``RUNNING`` has those that only a cluster shows; the tests of the main job look at them.

A part of Wakeful that can do without asks ``is_kept`` before it changes anything of Ray's: where
Ray is otherwise, Ray's own way is left, and the log says what that costs.
"""

from __future__ import annotations

import logging
from functools import cache

from deployments.ray_support.assumptions import versions
from deployments.ray_support.assumptions.core import CORE
from deployments.ray_support.assumptions.environment_names import NAMES
from deployments.ray_support.assumptions.running import RUNNING
from deployments.ray_support.assumptions.serve import SERVE
from deployments.ray_support.assumptions.written import WRITTEN
from runtime.system.assumptions import Assumption

__all__ = ["ASSUMPTIONS", "RUNNING", "is_kept"]

ASSUMPTIONS = (*CORE, *SERVE, *WRITTEN, *NAMES)

logger = logging.getLogger("wakeful.ray")


@cache
def is_kept(assumption: Assumption) -> bool:
    """Whether it holds; where it does not, the log says so, once a process. Of a release that was
    tried it is known: to look takes 20 to 70 ms for some, and replicas start often.
    """
    import ray  # late, as everywhere in this folder

    if versions.judge(ray.__version__) == "tried":
        return True
    fault = assumption.fault()
    if fault:
        logger.warning("this Ray is not as it was: %s. %s", fault, assumption.reason)
    return not fault
