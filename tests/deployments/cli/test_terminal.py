"""What commands do on a terminal; what they print where none shows it: whole lines, as they are."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from deployments.cli import status
from deployments.cli.terminal import (
    Progress,
    SignalCounter,
    new_table,
    print_table,
    stay_attached,
)
from deployments.cli.up import ENDING
from deployments.ray_support.state_dir import ClusterState, StateDir

NAME = "sentences-in-many-languages-" * 4


def test_a_pipe_gets_each_row_as_one_line(capsys):
    """Eighty columns would break a name, and a search for it would find nothing."""
    entry = {
        "name": NAME,
        "state": "ready",
        "tier": "host",
        "replicas": 0,
        "url": f"http://127.0.0.1:8000/v2/models/{NAME}",
        "reason": "",
    }
    status._print_table([entry])
    _, row = capsys.readouterr().out.splitlines()
    assert row.split() == [NAME, "ready", "host", "0", f"/v2/models/{NAME}"]


def test_cells_are_text(capsys):
    """What looks like rich's markup or like an emoji is neither."""
    table = new_table()
    table.add_column("licence")
    table.add_row("MIT [bold] :smile: [/x]")
    print_table(table)
    assert capsys.readouterr().out.splitlines()[1].rstrip() == "MIT [bold] :smile: [/x]"


def test_a_reason_is_printed_as_it_is(capsys):
    """One with a path in brackets ended `up`, as a closing tag without its opening one."""
    with Progress("starting") as progress:
        progress("late", {"why": "no [/run/haproxy.sock]"})
        progress("changed", {"news": {"classify": "accepts [image/*]"}})
        progress("untried", {"names": [NAME, NAME]})
    shown = [line.partition(" s  ")[2] for line in capsys.readouterr().err.splitlines()[1:]]
    assert shown[:2] == [
        "HAProxy is late: no [/run/haproxy.sock]",
        "classify: accepts [image/*]",
    ]
    assert len(shown) == 3
    assert shown[2].startswith(f"no answer is tried before the first call: {NAME}, {NAME}. ")


def test_a_down_from_another_terminal_may_take_longer_than_ray(capsys):
    """An `up` in the foreground sees Ray gone, and waits for that command's end."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        state_dir = StateDir(Path(short) / "w")
        state_dir.prepare()
        state_dir.save(ClusterState("own", "127.0.0.1:1", "127.0.0.1", 1, "", "/", "/"))
        holds = threading.Event()

        def down() -> None:
            with state_dir.lock():
                holds.set()
                time.sleep(1.5)
                state_dir.clear()

        other = threading.Thread(target=down)
        other.start()
        holds.wait(10)
        assert stay_attached(state_dir, 0.0, SignalCounter(), ENDING) == 0
        other.join()
    assert capsys.readouterr().out == "taken down from elsewhere.\n"
