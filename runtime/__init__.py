"""Wakeful's engine: functions declared in YAML, served in one process or, by ``deployments``, on Ray Serve.

What a stage author imports stands here; everything else is reachable and not promised.
"""

from runtime.annotations import Rows, Shape, State
from runtime.errors import RequestError

__all__ = ["RequestError", "Rows", "Shape", "State"]
