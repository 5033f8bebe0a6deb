"""The routes that belong to no function: the index, health, metrics, and what describes the
functions to programs and people; and, in ``task_routes``, those that functions answer by their
task. Mounted by ``runtime.http.server`` and by the catalogue of a cluster; loads no function but
for those. May import all of ``runtime`` below ``runtime.http``, and starlette.
"""
