"""Machines made of one are apart: network, processes, files; and go without a trace."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from loadtests.bench.children import ChildFailed
from loadtests.cluster.machines import TEMPORARY, machines, possible

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(possible()), reason=possible() or "machines can be made")]

ASK = "import socket, sys; sys.exit(socket.socket().connect_ex((sys.argv[1], int(sys.argv[2]))))"
LISTEN = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=9000, bind='0.0.0.0')"


def test_machines_hear_each_other_until_one_is_unplugged(tmp_path):
    """Each has the same ports and its own address; who is unplugged is not heard, and his processes live on."""
    log = tmp_path / "log"
    with machines(2) as (first, second), first.start(sys.executable, "-c", LISTEN, log=log, environ=os.environ) as server:
        for machine in (first, second):
            machine.run("bash", "-c", f"until (echo > /dev/tcp/{first.address}/9000) 2> /dev/null; do :; done", log=log, environ=os.environ)
        with pytest.raises(ChildFailed):
            second.run(sys.executable, "-c", ASK, "127.0.0.1", "9000", log=log, environ=os.environ)
        first.unplug()
        with pytest.raises(ChildFailed):
            second.run("timeout", "1", sys.executable, "-c", ASK, first.address, "9000", log=log, environ=os.environ)
        assert server.is_running


def test_machines_share_no_processes_names_or_temporary_files(tmp_path):
    """What one writes there the other does not see, and we see both."""
    log = tmp_path / "log"
    with machines(2) as (first, second):
        first.run("bash", "-c", f"hostname > {TEMPORARY}/mine; echo $$ >> {TEMPORARY}/mine", log=log, environ=os.environ)
        assert (first.tmp / "mine").read_text().split()[0] == "node1"
        assert not (second.tmp / "mine").exists()
        assert {process.pid for process in first.processes()}.isdisjoint(process.pid for process in second.processes())


def test_a_killed_machine_ends_with_all_that_runs_on_it(tmp_path):
    """At once; afterwards neither a process, nor an interface, nor a folder is left of any."""
    with machines(1) as (machine,), machine.start("sleep", "1000", log=tmp_path / "log", environ=os.environ) as child:
        while len(machine.processes()) < 3:
            assert child.is_running
        running = machine.processes()
        machine.kill()
        assert psutil.wait_procs(running, 10)[1] == []
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    assert machine.cable not in links
    assert not machine.tmp.exists()
