"""How often a verdict is wrong, on made-up servers whose distribution is known:

python -m tests.deployments.loadtest.results.false_verdicts --runs 200
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Final

from deployments.loadtest.results.verdict import PARTS, judge
from tests.deployments.loadtest.results.simulated_latencies import SERVERS, Server, run_of

MARGINS: Final = (0.80, 0.95, 0.99, 1.01, 1.05, 1.25)
"""What is promised, as a multiple of the true percentile: below 1 the promise is broken."""


def count_outcomes(
    server: Server, name: str, margin: float, *, runs: int, seconds: float
) -> Counter[str]:
    """The outcomes of so many runs where ``margin`` times the true percentile is promised."""
    limits = {name: 1000 * margin * server.percentile(PARTS[name])}
    return Counter(
        str(judge(run_of(server, limits, seconds, seed)).outcome) for seed in range(runs)
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server", choices=sorted(SERVERS), action="append")
    given = parser.parse_args()
    print(f"{given.runs} runs of {given.seconds:g} s each; PASS/FAIL/UNSURE, of 100")
    print(f"{'server':24}{'':5}" + "".join(f"{margin:>14g}" for margin in MARGINS) + "   false")
    for label in given.server or SERVERS:
        for name in PARTS:
            cells, worst = [], 0.0
            for margin in MARGINS:
                seen = count_outcomes(
                    SERVERS[label], name, margin, runs=given.runs, seconds=given.seconds
                )
                shares = [100 * seen[one] / given.runs for one in ("PASS", "FAIL", "UNSURE")]
                worst = max(worst, shares[0] if margin < 1 else shares[1])
                cells.append("/".join(f"{share:.0f}" for share in shares))
            row = "".join(f"{cell:>14}" for cell in cells)
            print(f"{label:24}{name[8:11]:5}{row}{worst:7.1f} %", flush=True)


if __name__ == "__main__":
    main()
