"""Ways to cut texts into batches when all of them are known beforehand: what no server, which sees them one by one, can beat."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Plan = list[list[int]]
"""Batches of indices into the texts; every index once."""

SIZES = (2, 4, 8, 16, 32)
COSTS = (64, 128, 256, 512, 1024)


def one_by_one(lengths: Sequence[int]) -> Plan:
    """Every text alone: no padding, no batching."""
    return [[index] for index in range(len(lengths))]


def in_order(count: int, size: int) -> Plan:
    """Batches of ``size`` as the texts come; for texts of one length."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def by_length(lengths: Sequence[int], size: int, cost: int | None = None) -> Plan:
    """Neighbours in length share a batch, of at most ``size`` texts and ``cost`` padded tokens (one text always may go)."""
    plan: Plan = []
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        padded = (len(batch) + 1) * lengths[index]
        if batch and (len(batch) == size or (cost is not None and padded > cost)):
            plan.append(batch)
            batch = []
        batch.append(index)
    return [*plan, batch] if batch else plan


def candidates(lengths: Sequence[int]) -> Iterator[tuple[str, Plan]]:
    """Every policy tried, by name."""
    yield "one by one", one_by_one(lengths)
    for size in SIZES:
        yield f"by length, batches of {size}", by_length(lengths, size)
    for cost in COSTS:
        yield f"by length, at most {cost} padded tokens", by_length(lengths, max(SIZES), cost)
