"""Batches rows of many calls: queues by segment, the policy of batches, worker threads.

``runtime/execution`` builds a function on it; ``library`` and ``http`` use its types of calls.
It may import ``artifacts`` and what lies below (the table is in tests/test_floors.py).
"""
