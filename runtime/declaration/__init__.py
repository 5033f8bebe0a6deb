"""Reads ``serve_config.yaml``: YAML with lines, strict models of every key, all faults at once.
Called by ``artifacts``, ``graph``, ``execution`` and ``deployments``, which take its frozen specs.
It imports ``errors``, ``system`` and ``types``, and loads no stage and no model.
"""
