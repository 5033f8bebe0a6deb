"""What a traffic costs. There are two ways to pay. *Used*: what functions hold while they hold it,
as where many share a cluster: the CPUs and the share of a GPU of each replica, worker seconds in
the shared host, memory. *Machines*: all of them, all the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from runtime.errors import RequestError
from runtime.system.setting_values import to_number

MONTH_S: Final = 730 * 3600.0
"""A twelfth of a year of 365 days."""

GB: Final = 1e9

MOST_PRICE: Final = 1e9

UNITS: Final = {
    "cpu": "a core for an hour",
    "gpu": "a GPU for an hour",
    "memory": "a GB for an hour",
}


@dataclass(frozen=True, slots=True)
class Prices:
    """By the hour: of a core, of a GPU, of a GB of memory. None: not given."""

    cpu: float | None = None
    gpu: float | None = None
    memory: float | None = None

    @property
    def are_given(self) -> bool:
        """Whether there is any."""
        return any(price is not None for price in (self.cpu, self.gpu, self.memory))

    def of(self, cpu_s: float, gpu_s: float, gb_s: float) -> float:
        """The price of so many seconds of each."""
        parts = ((self.cpu, cpu_s), (self.gpu, gpu_s), (self.memory, gb_s))
        return sum((price or 0.0) * seconds for price, seconds in parts) / 3600


def parse_prices(text: str) -> Prices:
    """``cpu=0.04,gpu=1.2,memory=0.005``.

    Raises:
        RequestError: an unknown unit, one twice, or what is no price.
    """
    found: dict[str, float] = {}
    known = ", ".join(f"{unit} ({words})" for unit, words in UNITS.items())
    for part in filter(None, (part.strip() for part in text.split(","))):
        unit, _, number = part.partition("=")
        unit = unit.strip()
        if unit not in UNITS:
            raise RequestError(f"there is no unit {unit!r}; there are {known}.", where="--price")
        if unit in found:
            raise RequestError(f"{unit!r} has two prices. Give it one.", where="--price")
        price = to_number(number)
        if not 0 <= price <= MOST_PRICE:
            raise RequestError(
                f"{part!r} is given, {unit}=PRICE is wanted, for {UNITS[unit]}: {unit}=0.04.",
                where="--price",
            )
        found[unit] = price
    return Prices(**found)


@dataclass(frozen=True, slots=True)
class Costs:
    """In the currency of the prices.

    Attributes:
        per_1000: calls; None: there were none.
        month: of traffic like this.
        gpu_month: the part of it that is for GPUs.
    """

    per_1000: float | None
    month: float
    gpu_month: float


def cost_of(
    prices: Prices, cpu_s: float, gpu_s: float, gb_s: float, *, calls: int, seconds: float
) -> Costs | None:
    """Of what is held in so many seconds of traffic; None where no price was given."""
    if not prices.are_given:
        return None
    whole = prices.of(cpu_s, gpu_s, gb_s)
    months = MONTH_S / seconds
    return Costs(
        1000 * whole / calls if calls else None,
        whole * months,
        prices.of(0.0, gpu_s, 0.0) * months,
    )


def sum_costs(costs: Iterable[tuple[Costs | None, int]], seconds: float) -> Costs | None:
    """Of several functions, each with its calls; None where no price was given.

    Args:
        seconds: of traffic, in which these calls came.
    """
    pairs = [(cost, calls) for cost, calls in costs if cost is not None]
    if not pairs:
        return None
    month, calls = sum(cost.month for cost, _ in pairs), sum(calls for _, calls in pairs)
    return Costs(
        1000 * month * seconds / MONTH_S / calls if calls else None,
        month,
        sum(cost.gpu_month for cost, _ in pairs),
    )
