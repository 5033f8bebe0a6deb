"""The process that asks the head of a cluster what a machine has to have, before it joins: ``python -m deployments.comparing ADDRESS``.

It runs with the node's environment and prints one line of JSON: ``unlike``, what is not the same here (``sameness``), in words, and where
the cluster serves HTTP, ``host`` and ``port``. Ray's head is asked directly, since there is no Ray on this machine yet.
"""

from __future__ import annotations

import json
import sys

from deployments.rayprivate import HeadStore
from deployments.sameness import KEY, differences, digests
from runtime.settings import Settings


def main(address: str) -> None:
    """Prints it; an empty object where the head keeps nothing, since nothing is deployed yet."""
    kept = HeadStore.ask(address, KEY)
    if kept is None:
        print("{}")
        return
    told = json.loads(kept)
    wanted = told.pop("digests")
    print(json.dumps({**told, "unlike": differences(wanted, digests(wanted, Settings.read()))}))


if __name__ == "__main__":
    main(sys.argv[1])
