"""Wakeful on Ray: the only package that imports it.

``serve_config.yaml`` names the builders here: ``import_path: deployments:function``,
``deployments:host`` and ``deployments:catalogue``.
"""

from __future__ import annotations

from typing import Any

_BUILDERS = ("catalogue", "function", "host")


def __getattr__(name: str) -> Any:
    """The builders, imported when asked for: the command line must not pay for Ray to print its
    help.
    """
    if name in _BUILDERS:
        from deployments.placement import builders

        return getattr(builders, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
