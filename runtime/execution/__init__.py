"""Runs declared functions: loads their stages and models, admits their calls, answers rows.

``runtime/library`` and ``runtime/http`` use ``Function``; each replica and host has some.
It may import ``graph``, ``batching``, ``onnx`` and what lies below (tests/test_floors.py).
"""
