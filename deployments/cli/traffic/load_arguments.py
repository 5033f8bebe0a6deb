"""How the command line of ``wakeful loadtest`` is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.system.setting_values import to_number

if TYPE_CHECKING:
    from deployments.loadtest.load_options import LoadOptions

_Callback = Callable[[click.Context, click.Parameter, tuple[str, ...]], Any]


def read_numbers(least: float, most: float = math.inf) -> _Callback:
    """Reads ``VALUE``, for every function (``EACH``), and ``FUNCTION=VALUE``."""

    def read(
        ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        for value in values:
            name, _, text = value.rpartition("=")
            number = to_number(text)
            if not (least <= number <= most and math.isfinite(number)):
                upper = f" to {most:g}" if math.isfinite(most) else ""
                raise click.BadParameter(
                    f"{value!r} is given, a number from {least:g}{upper} is wanted, or"
                    " FUNCTION=NUMBER."
                )
            if name in found:
                raise click.BadParameter(f"{name or 'every function'} has two. Give it one.")
            found[name] = number
        return found

    return read


def read_files(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, Path], ...]:
    """``FUNCTION=FILE``, and ``FILE``, in which each line says its function (``EACH``)."""
    found = list[tuple[str, Path]]()
    for value in values:
        name, equals, path = value.partition("=")
        is_named = equals and "/" not in name
        found.append((name, Path(path)) if is_named else ("", Path(value)))
    return tuple(found)


def promise_option(part: str, words: str, most: float = math.inf) -> Callable[[Any], Any]:
    """An option that promises something."""
    flag = f"--{part.removeprefix('latency_').replace('_', '-')}"
    return click.option(
        flag,
        part,
        callback=read_numbers(0.0 if math.isfinite(most) else 0.001, most),
        multiple=True,
        metavar="NUMBER",
        help=f"{words}; before the file's `slo`.",
    )


def options_of(**given: Any) -> LoadOptions:
    """What is asked for.

    Raises:
        UsageError: options that do not go together.
    """
    from deployments.loadtest.load_options import LoadOptions

    speed, trace = given.pop("speed"), given["trace"]
    parts = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "success", "warm")
    promises = {part: given.pop(part) for part in parts}
    if trace:
        if given["shape"] != "steady":
            raise click.UsageError("--trace is a shape of its own. Leave --shape out.")
        if given["rates"]:
            raise click.UsageError("--trace has its own rate. Leave --rps out, or use --speed.")
        given["shape"] = "trace"
    if speed is not None:
        if not trace:
            raise click.UsageError("--speed is about a trace: give `--trace FILE`.")
        given["shape_options"] = {"speed": speed}
    return LoadOptions(promises=promises, prices=_prices(given.pop("price")), **given)


def _prices(text: str) -> dict[str, float]:
    """Of ``cpu=0.04,memory=0.005``."""
    from deployments.scaling.planning.costs import parse_prices

    found = {unit: price for unit, price in asdict(parse_prices(text)).items() if price is not None}
    if "gpu" in found:
        raise click.UsageError(
            "--price: what a GPU is used for is not measured. `wakeful plan --price gpu=PRICE`"
            " counts with the share that is declared."
        )
    return found
