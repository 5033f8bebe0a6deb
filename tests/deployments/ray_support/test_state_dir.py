"""The state folder: private, complete or absent, and held by one command at a time."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.ingress import residency_signal
from deployments.ingress.wake_signal import ReplayTerms, WakeSignal, WakeSignals
from deployments.ray_support import state_dir
from deployments.ray_support.environment import MARK, SidePorts
from deployments.ray_support.haproxy_names import LACKS
from deployments.ray_support.state_dir import (
    MAX_PATH,
    ClusterState,
    DeployedApp,
    StateDir,
    StateDirBusy,
    StateDirUnusable,
    default_state_dir,
)

UP = ClusterState(
    kind="own",
    address="127.0.0.1:6379",
    host="0.0.0.0",
    port=8000,
    file="/f.yaml",
    root="/",
    models="/models",
    ports=SidePorts(1, 2, 3, 4),
    deployed=(
        DeployedApp("catalogue", "/", "catalogue", "c"),
        DeployedApp(
            "embed", "/v2/models/embed", "function", "e", {"num_cpus": 1.0, "num_gpus": 0.5}
        ),
    ),
)


@pytest.fixture
def home():
    """A prepared state folder; not below pytest's own, whose paths are too long for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        home = StateDir(Path(folder) / "w")
        home.prepare()
        yield home


def test_what_is_up_comes_back_as_it_was_written(home):
    """Nested parts included."""
    home.save(UP)
    assert home.load() == UP
    assert [entry.name for entry in UP.functions] == ["embed"]


def test_what_another_version_wrote_is_read_as_far_as_it_is_known(home):
    """More keys than these are left out, fewer are the defaults; without those that are needed
    nothing is known.
    """
    home.save(UP)
    written = json.loads((home.path / "up.json").read_text())
    newer = {
        **written,
        "later": 1,
        "deployed": [{**entry, "later": []} for entry in written["deployed"]],
        "ports": {**written["ports"], "x": 1},
    }
    older = {key: value for key, value in written.items() if key != "node_ip"}
    first = {key: value for key, value in written.items() if key != "wire"}
    for text, found in (
        (json.dumps(newer), UP),
        (json.dumps(older), UP),
        (json.dumps(first), replace(UP, wire=1)),
        ("{}", None),
        ("[]", None),
        ("{", None),
        ("", None),
    ):
        (home.path / "up.json").write_text(text)
        assert home.load() == found


def test_the_versions_that_stand_are_kept(home):
    """Whole, as the driver takes them; none in a new folder."""
    assert home.load_applications() == []
    home.save_applications([{"name": "embed", "args": {"onnx": "e.onnx"}}])
    assert home.load_applications() == [{"name": "embed", "args": {"onnx": "e.onnx"}}]


def test_a_note_comes_back_and_makes_no_difference(home):
    """It is for people: the state is the same with it and without it."""
    noted = replace(UP.deployed[1], note="keeps the version before")
    home.save(replace(UP, deployed=(UP.deployed[0], noted)))
    loaded = home.load()
    assert loaded is not None
    assert (loaded, loaded.deployed[1].note) == (UP, "keeps the version before")


def test_nothing_is_up_in_a_new_or_cleared_folder(home):
    """Clearing twice is clearing once."""
    assert home.load() is None
    home.save(UP)
    home.clear()
    home.clear()
    assert home.load() is None


def test_no_copy_of_a_private_key_outlives_the_cluster(home):
    """Nor one that was not written to its end."""
    folder = home.path / "hap" / "node"
    folder.mkdir(parents=True)
    for name in ("tls.pem", "tls.pem.77.new", "haproxy.cfg"):
        (folder / name).touch()
    home.clear()
    assert [path.name for path in folder.iterdir()] == ["haproxy.cfg"]


def test_folder_and_token_are_for_their_owner_only(home):
    """A process that reads the token can run code in the cluster."""
    token = home.path / "token"
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64


def test_a_token_stays(home):
    """Another shell uses the same."""
    before = (home.path / "token").read_text()
    home.prepare()
    assert (home.path / "token").read_text() == before


def test_an_empty_token_is_replaced(home):
    """Left by a command that was killed at the wrong moment; every user would know it."""
    (home.path / "token").write_text("")
    home.prepare()
    assert len(home.key()) == 64


@pytest.mark.skipif(
    not shutil.which("systemd-tmpfiles"), reason="systemd's own program is the test"
)
def test_a_folder_that_is_held_does_not_age(home, tmp_path, monkeypatch):
    """Ten days without a command, and `up.json`, the token and the signals would be gone; without a
    holder they go.
    """
    home.save(UP)
    held = home.path / "up.json"
    rule = tmp_path / "rule.conf"
    rule.write_text(f"d {home.path.parent} - - - 1us\n")
    monkeypatch.setenv(MARK, str(home.path))
    keeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from deployments.ray_support.state_dir import hold_lock; hold_lock(); "
            "print(flush=True); input()",
        ],
        stdin=-1,
        stdout=-1,
    )
    with keeper:
        assert keeper.stdout
        keeper.stdout.readline()
        subprocess.run(["systemd-tmpfiles", "--clean", str(rule)], check=True)
        assert held.exists()
        keeper.kill()
    subprocess.run(["systemd-tmpfiles", "--clean", str(rule)], check=True)
    assert not held.exists()


def test_what_haproxy_lacks_is_known_until_the_next_cluster(home):
    """The program that starts HAProxy writes a line each."""
    assert home.lacks() == []
    (home.path / LACKS).write_text("one.\ntwo.")
    assert home.lacks() == ["one.", "two."]
    home.wipe()
    assert home.lacks() == []


def test_an_earlier_cluster_leaves_no_signals(home, monkeypatch):
    """A function that was pinned in it, or was to sleep, starts as it is declared."""
    monkeypatch.setenv(MARK, str(home.path))
    residency_signal.set_pinned(["f"])
    residency_signal.set_sleeping(["g"])
    WakeSignal("/v2/models/f", ReplayTerms(1, 1, 1, 1))
    home.wipe()
    assert not residency_signal.is_pinned("f")
    assert not residency_signal.is_to_sleep("g")
    assert WakeSignals().request_wake("/v2/models/f") is None


def test_a_link_in_place_of_the_folder_is_refused(home):
    """Another user may have put it there."""
    link = home.path.parent / "link"
    link.symlink_to(home.path)
    with pytest.raises(StateDirUnusable, match="it is a link"):
        StateDir(link).prepare()


def test_a_path_too_long_for_sockets_is_refused(tmp_path):
    """Before Ray fails on it with a message about sockets."""
    with pytest.raises(StateDirUnusable, match="too long"):
        StateDir(tmp_path / ("x" * MAX_PATH)).prepare()


def test_the_default_folder_is_short_enough():
    """Also where the system's folder for temporary files is deep."""
    assert len(str(default_state_dir())) <= MAX_PATH


FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no write succeeds, as on a full disk
from deployments.ray_support.state_dir import StateDir
home = StateDir()
with home.lock():
    print(home.path, home.load() is not None)
    try:
        home.save(home.load())
    except Exception as error:
        print(error.code, error.message)
    print(home.load() is not None, sorted(one.name for one in home.path.glob("*.new")))
"""


def test_a_full_disk_hides_no_cluster(home):
    """`down` and `status` find what is up, where it is; they take its lock. What is to be written
    is refused, and what was there is there.
    """
    folder = home.path.parent / f"wakeful-{os.getuid()}"
    home.path.rename(folder)
    StateDir(folder).save(UP)
    with StateDir(folder).lock():
        pass
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK],
        env={**os.environ, "TMPDIR": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stderr == ""
    assert child.stdout.splitlines() == [
        f"{folder} True",
        f"state_folder {folder}/up.json cannot be written: File too large. Make room there, then "
        "call the command again.",
        "True []",
    ]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, "/tmp"),
        ({"TMPDIR": "{0}/a"}, "{0}/a"),
        ({"TMPDIR": "{0}/none"}, "/tmp"),
        ({"TMPDIR": "", "TEMP": "{0}/a", "TMP": "{0}/b"}, "{0}/a"),
        ({"TMPDIR": "{0}/none", "TMP": "{0}/b"}, "{0}/b"),
        ({"TMPDIR": "{0}/" + "x" * MAX_PATH, "TMP": "{0}/b"}, "{0}/b"),
    ],
)
def test_the_first_folder_that_there_is_has_the_state(monkeypatch, variables, found):
    """In the order of Python's own; one that is missing, or too deep for sockets, is none."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        for name in ("a", "b", "x" * MAX_PATH):
            Path(short, name).mkdir()
        for name in ("TMPDIR", "TEMP", "TMP"):
            monkeypatch.setenv(name, variables.get(name, "").format(short))
        assert default_state_dir() == Path(found.format(short)) / f"wakeful-{os.getuid()}"


def test_a_folder_that_is_there_wins_though_nothing_can_be_written_beside_it(monkeypatch, home):
    """A disk that went read-only still has the cluster."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("TMPDIR", str(home.path.parent))
    assert default_state_dir().parent == Path("/tmp")
    (home.path.parent / f"wakeful-{os.getuid()}").mkdir()
    assert default_state_dir().parent == home.path.parent


def test_a_second_command_is_refused_while_the_first_is_at_it(home):
    """With the process that holds the lock; afterwards it is free."""
    with (
        home.lock(),
        pytest.raises(StateDirBusy, match=r"another command \(process \d+\)"),
        StateDir(home.path).lock(),
    ):
        pass
    with home.lock():
        pass


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_the_url_is_one_that_this_machine_can_call(host, url):
    """Every address is called by the loopback one; IPv6 goes in brackets."""
    assert ClusterState("own", "", host, 8000, "", "", "").url == url


def test_a_folder_of_another_user_is_not_used_by_a_process(home, monkeypatch, caplog):
    """On a cluster that `up` did not start no command has looked at it: a process has a folder of its
    own then, and says so once.
    """
    monkeypatch.setattr(state_dir, "default_state_dir", lambda: home.path)
    assert state_dir.process_state_dir() == home.path
    home.path.chmod(0o755)
    assert state_dir.process_state_dir() == home.path
    assert home.path.stat().st_mode & 0o777 == 0o700
    planted = home.path.parent / "planted"
    planted.symlink_to(home.path)
    monkeypatch.setattr(state_dir, "default_state_dir", lambda: planted)
    own = state_dir.process_state_dir()
    assert own not in (home.path, planted)
    assert own.stat().st_mode & 0o777 == 0o700
    assert state_dir.process_state_dir() == own
    assert caplog.text.count("it is a link") == 1
    own.rmdir()


def test_the_owner_of_what_was_opened_counts(tmp_path, monkeypatch):
    """And not of what has the name before or afterwards."""
    folder = tmp_path / "wakeful-1"
    folder.mkdir()
    monkeypatch.setattr(state_dir.os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(StateDirUnusable, match="belongs to another user"):
        state_dir.make_private(folder)
