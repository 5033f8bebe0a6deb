"""Of a cluster that runs, and has a function with a replica: the state folder of this user's shows
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from deployments.ray_support import processes, texts
from deployments.ray_support.state_dir import default_state_dir
from runtime.system.assumptions import Assumption, require


def _home() -> Path:
    return default_state_dir()


def _processes() -> None:
    found = sorted(process.name() for process in processes.ray_processes(_home()))
    require(processes.is_running(_home()), f"of {processes.RAY_PROCESSES} there runs {found}")
    for name in (processes.REPLICA_PROCESS, processes.MANAGER_PROCESS, "haproxy"):
        names = sorted({process.name() for process in processes.cluster_processes(_home())})
        require(bool(processes.by_name(_home(), name)), f"no process is called {name}: {names}")


PROCESSES: Final = Assumption(
    "processes of a cluster",
    "`down` ends and suspends them, `status` sees that they live. All are found by the mark in "
    "their environment, over which some write their title.",
    "",
    _processes,
)


def _output() -> None:
    logs = _home() / "ray" / texts.LAST_SESSION / "logs"
    files = sorted(logs.glob(texts.OUTPUT_FILES))
    require(bool(files), f"there is no {texts.OUTPUT_FILES} in {logs}")
    strange = [one.name for one in files if texts.read_output_name(one.name) is None]
    require(not strange, f"output files are called {', '.join(strange)}")
    heads = b"".join(one.read_bytes()[: texts.HEAD_BYTES] for one in files)
    require(texts.names_replica(heads, ["catalogue"]), "no output file says whose it is")


OUTPUT_FILES: Final = Assumption(
    "output files of a cluster",
    "`wakeful logs` finds what a function wrote.",
    "",
    _output,
)


RUNNING: Final = (PROCESSES, OUTPUT_FILES)
