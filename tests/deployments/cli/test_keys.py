"""`wakeful keys`: the key is printed once, and alone; the file has its digest."""

from __future__ import annotations

import json
import re
import stat

import pytest
from click.testing import CliRunner

from deployments.cli import main
from runtime.declaration.access.key_file import read_keys
from runtime.declaration.access.keys import digest_of

FILE = """\
http:
  auth:
    keys:
    - {name: declared, sha256: "%s"}
applications:
- {name: f, args: {onnx: m.onnx}}
- {name: g, args: {onnx: m.onnx}}
""" % ("a" * 64)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder without a file, of a user that has no keys yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("WAKEFUL_KEYS", raising=False)
    return tmp_path


def keys_path(home):
    """Where keys are by default."""
    return home / "state" / "wakeful" / "keys.json"


def wakeful(*arguments):
    """What `wakeful keys` does with these."""
    return CliRunner().invoke(main, ["keys", *arguments])


def test_a_key_is_printed_alone(home):
    """So that a shell takes it; what it opens is said beside it, and the file has the digest."""
    result = wakeful("add", "ci", "--rps", "20", "--in-flight", "8", "--expires", "90d")
    assert result.exit_code == 0
    key = result.stdout.removesuffix("\n")
    assert re.fullmatch(r"wk_[\w-]{43}", key)
    assert key not in result.stderr
    for word in ("ci", "20", "8", str(keys_path(home))):
        assert word in result.stderr
    (kept,) = read_keys(keys_path(home))
    assert (kept.name, kept.functions, kept.scopes) == ("ci", None, {"call"})
    assert (kept.rps, kept.in_flight) == (20.0, 8)
    assert [one.sha256 for one in kept.digests] == [digest_of(key)]
    assert key not in keys_path(home).read_text()
    assert stat.S_IMODE(keys_path(home).stat().st_mode) == 0o600


def test_a_program_reads_it_as_json(home):
    """The key among what it opens."""
    result = wakeful("add", "ci", "--scope", "look,operate", "--scope", "call", "--json")
    told = json.loads(result.stdout)
    assert told["key"].startswith("wk_")
    assert (told["name"], told["scope"]) == ("ci", ["call", "look", "operate"])
    assert result.stderr == ""


def test_keys_are_listed_without_themselves(home):
    """Those of the file, too."""
    (home / "serve_config.yaml").write_text(FILE)
    key = wakeful("add", "ci", "--functions", "f,g").stdout.strip()
    wakeful("add", "old", "--expires", "0s")
    listed = wakeful("list")
    assert listed.exit_code == 0
    for word in ("declared", "ci", "f, g", "old", "(expired)"):
        assert word in listed.stdout
    assert key not in listed.stdout
    told = {entry["name"]: entry for entry in json.loads(wakeful("list", "--json").stdout)}
    assert told["declared"]["file"] == "serve_config.yaml"
    assert told["ci"]["functions"] == ["f", "g"]
    assert told["old"]["has_expired"] is True
    assert digest_of(key) not in json.dumps(told)


def test_no_keys_are_a_line(home):
    """Which says where they would be; a program has an empty list."""
    assert str(keys_path(home)) in wakeful("list").stdout
    assert json.loads(wakeful("list", "--json").stdout) == []


def test_a_key_is_removed(home):
    """The others stay."""
    wakeful("add", "one")
    wakeful("add", "two")
    assert wakeful("remove", "one").exit_code == 0
    assert [key.name for key in read_keys(keys_path(home))] == ["two"]


def test_a_rotated_key_has_two_digests_for_a_while(home):
    """Or none of the former, where that is asked for."""
    first = wakeful("add", "ci").stdout.strip()
    second = wakeful("rotate", "ci").stdout.strip()
    (kept,) = read_keys(keys_path(home))
    assert [one.sha256 for one in kept.digests] == [digest_of(second), digest_of(first)]
    assert "former" in wakeful("list").stdout
    third = wakeful("rotate", "ci", "--keep", "0s").stdout.strip()
    (kept,) = read_keys(keys_path(home))
    assert [one.sha256 for one in kept.digests] == [digest_of(third)]
    assert len({first, second, third}) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["add", "declared"], 1, ["serve_config.yaml:4", "declared"]),
        (["remove", "declared"], 1, ["serve_config.yaml:4"]),
        (["rotate", "declared"], 1, ["serve_config.yaml:4"]),
        (["add", "taken"], 1, ["taken"]),
        (["remove", "takne"], 1, ["takne", "taken"]),
        (["rotate", "takne"], 1, ["takne", "taken"]),
        (["add", "ci", "--functions", "f,h"], 2, ["--functions", "h"]),
        (["add", "ci", "--functions", "f,,g"], 2, ["--functions"]),
        (["add", "ci", "--scope", "cal"], 2, ["--scope", "cal", "call"]),
        (["add", "ci", "--rps", "0"], 2, ["--rps"]),
        (["add", "ci", "--rps", "nan"], 2, ["--rps"]),
        (["add", "ci", "--in-flight", "0"], 2, ["--in-flight"]),
        (["add", "ci", "--expires", "soon"], 2, ["--expires", "90d"]),
        (["add", "ci", "--expires", "1.5d"], 2, ["--expires"]),
        (["rotate", "taken", "--keep", "-1d"], 2, ["--keep"]),
        (["add", "a name"], 2, ["NAME"]),
        (["add", "ci", "--file", "none.yaml"], 2, ["none.yaml"]),
    ],
)
def test_what_cannot_be_is_refused(home, arguments, status, words):
    """In words, and nothing changes."""
    (home / "serve_config.yaml").write_text(FILE)
    wakeful("add", "taken")
    before = keys_path(home).read_text()
    result = wakeful(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr
    assert keys_path(home).read_text() == before


def test_a_key_is_no_argument(home):
    """It would be seen among those of processes, and is not repeated."""
    key = wakeful("add", "ci").stdout.strip()
    result = wakeful("remove", key)
    assert result.exit_code == 2
    assert key[3:20] not in result.stderr


def test_a_broken_file_of_keys_is_not_overwritten(home):
    """What is in it may be mended."""
    keys_path(home).parent.mkdir(parents=True)
    keys_path(home).write_text('{"form": 1, "keys": [')
    result = wakeful("add", "ci")
    assert result.exit_code == 2
    assert str(keys_path(home)) in result.stderr
    assert keys_path(home).read_text() == '{"form": 1, "keys": ['


def test_the_file_says_where_its_keys_are(home, monkeypatch):
    """And the environment goes before it."""
    text = FILE.replace("    keys:", "    file: conf/k.json\n    keys:")
    (home / "serve_config.yaml").write_text(text)
    wakeful("add", "one")
    assert [key.name for key in read_keys(home / "conf" / "k.json")] == ["one"]
    monkeypatch.setenv("WAKEFUL_KEYS", "mine.json")
    wakeful("add", "two")
    assert [key.name for key in read_keys(home / "mine.json")] == ["two"]
