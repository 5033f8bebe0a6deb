"""Functions by name: declared, loaded on their first call, unloaded when idle or to save memory.

Used by ``runtime.http`` (``wakeful run``, the shared host) and ``deployments.serving``.
May import ``runtime.execution`` and the floors below it; knows nothing of HTTP or Ray.
"""
