"""How often a verdict is wrong, on made-up servers whose distribution is known:

python -m tests.deployments.loadtest.results.false_verdicts --runs 200
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from deployments.loadtest.results.records import Promise
from deployments.loadtest.results.verdict import PARTS, judge
from tests.deployments.loadtest.results.simulated_latencies import SERVERS, Server, run_of

MARGINS: Final = (0.80, 0.95, 0.99, 1.01, 1.05, 1.25)
"""What is promised, as a multiple of the true percentile: below 1 the promise is broken."""


def count_outcomes(
    server: Server, seeds: Iterable[int], seconds: float, margins: Sequence[float] = MARGINS
) -> dict[tuple[str, float], Counter[str]]:
    """The outcomes of the runs of these seeds, by percentile and margin that is promised."""
    promises = {
        (name, margin): Promise(**{name: 1000 * margin * server.percentile(part)})
        for name, part in PARTS.items()
        for margin in margins
    }
    seen: dict[tuple[str, float], Counter[str]] = {cell: Counter() for cell in promises}
    for seed in seeds:
        run = run_of(server, {}, seconds, seed)
        for cell, promise in promises.items():
            outcome = judge(replace(run, promises={"f": promise})).outcome
            seen[cell][str(outcome)] += 1
    return seen


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--seed",
        type=int,
        default=1000,
        help="the first; 0 to 199 chose the constants of the verdict, and prove nothing of them",
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server", choices=sorted(SERVERS), action="append")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.runs)
    print(f"{given.runs} runs of {given.seconds:g} s, seeds from {given.seed}")
    print("PASS/FAIL/UNSURE, of 100")
    print(f"{'server':24}{'':5}" + "".join(f"{margin:>14g}" for margin in MARGINS) + "   false")
    for label in given.server or SERVERS:
        seen = count_outcomes(SERVERS[label], seeds, given.seconds)
        for name in PARTS:
            cells, worst = [], 0.0
            for margin in MARGINS:
                outcomes = seen[name, margin]
                shares = [100 * outcomes[one] / given.runs for one in ("PASS", "FAIL", "UNSURE")]
                worst = max(worst, shares[0] if margin < 1 else shares[1])
                cells.append("/".join(f"{share:.3g}" for share in shares))
            row = "".join(f"{cell:>14}" for cell in cells)
            print(f"{label:24}{name[8:11]:5}{row}{worst:7.1f} %", flush=True)


if __name__ == "__main__":
    main()
