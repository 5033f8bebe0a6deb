"""The file of keys: what is written is read, and what is broken or another user's is refused."""

from __future__ import annotations

import json
import os
import stat
import threading
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.declaration.access import key_file
from runtime.declaration.access.changes import KeyRefused, with_key
from runtime.declaration.access.key_file import distrust_reason, hold_keys, read_keys, write_keys
from runtime.declaration.access.keys import AccessKey, KeyDigest
from runtime.errors import DeclarationError
from tests.problems import expect_values, places, problems_in

A, B, C = ("a" * 64, "b" * 64, "c" * 64)

DIGESTS = st.integers(min_value=0, max_value=16**64 - 1).map(lambda number: f"{number:064x}")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
MOMENTS = st.integers(min_value=0, max_value=4_000_000_000).map(float)


@st.composite
def key_lists(draw):
    """Keys, each one of its own."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    keys = []
    for index, name in enumerate(names):
        digests = draw(st.lists(DIGESTS, unique=True, min_size=1, max_size=3))
        marked = [f"{index:02x}{digest[2:]}" for digest in digests]
        ends = draw(st.lists(MOMENTS, min_size=len(marked) - 1, max_size=len(marked) - 1))
        is_certificate = draw(st.booleans())
        keys.append(
            AccessKey(
                name,
                () if is_certificate else (KeyDigest(marked[0]), *map(KeyDigest, marked[1:], ends)),
                f"cn{index}" if is_certificate else "",
                draw(st.none() | st.frozensets(NAMES, min_size=1, max_size=3)),
                draw(st.frozensets(st.sampled_from(["call", "look", "operate"]), min_size=1)),
                draw(st.none() | st.floats(0.01, 1e6)),
                draw(st.none() | st.integers(1, 10**6)),
                draw(st.none() | MOMENTS),
            )
        )
    return tuple(keys)


@settings(max_examples=30)
@given(keys=key_lists())
def test_what_is_written_is_read(tmp_path_factory, keys):
    """Whatever the keys are."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(path, keys)
    assert {(key, *sorted(key.digests, key=str)) for key in read_keys(path)} == {
        (key, *sorted(key.digests, key=str)) for key in keys
    }
    assert [key.name for key in read_keys(path)] == [key.name for key in keys]


@pytest.mark.parametrize(
    ("before", "after"), [(None, 0o600), (0o600, 0o600), (0o644, 0o644), (0o460, 0o640)]
)
def test_a_file_is_for_its_owner_alone(tmp_path, before, after):
    """Unless others were let read it; no other may ever write it, and nothing is left beside it."""
    path = tmp_path / "made" / "keys.json"
    if before is not None:
        write_keys(path, [AccessKey("k", (KeyDigest(A),))])
        path.chmod(before)
    write_keys(path, [AccessKey("k", (KeyDigest(B),))])
    assert stat.S_IMODE(path.stat().st_mode) == after
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]
    lines = path.read_text().splitlines()
    assert json.loads("".join(lines))["form"] == 1
    assert sum('"name"' in line for line in lines) == 1, "an entry is a line"


def test_a_link_stays_one(tmp_path):
    """Files like it may be kept elsewhere."""
    (tmp_path / "there").mkdir()
    path = tmp_path / "keys.json"
    path.symlink_to(tmp_path / "there" / "mine.json")
    with hold_keys(path):
        write_keys(path, [AccessKey("k", (KeyDigest(A),))])
    assert path.is_symlink()
    assert [key.name for key in read_keys(path)] == ["k"]
    assert (tmp_path / "there" / "mine.json").is_file()


def test_a_file_that_is_not_there_has_no_keys(tmp_path):
    """Before the first one is made."""
    assert read_keys(tmp_path / "keys.json") == ()


def test_a_file_that_cannot_be_written_stays(tmp_path, monkeypatch):
    """The disk fills while it is written: readers have the former one."""
    path = tmp_path / "keys.json"
    write_keys(path, [AccessKey("k", (KeyDigest(A),))])

    def fill(file, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_file, "put_in_place", fill)
    with pytest.raises(KeyRefused) as refused:
        write_keys(path, [])
    expect_values(refused.value, str(path), "No space left on device")
    assert [key.name for key in read_keys(path)] == ["k"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def entry(**changed):
    """A right entry, but for this."""
    return {key: value for key, value in {"name": "k", "sha256": A, **changed}.items() if value}


def whole(*entries, **changed):
    """A file with these entries."""
    return json.dumps({"form": 1, "keys": list(entries), **changed})


KEY = "wk_" + "Zk3" * 14 + "Q"

BROKEN = [
    ("empty", "", ["1"]),
    ("no JSON", "keys: []", ["1"]),
    ("cut off", '{"form": 1,\n "keys": [', ["2"]),
    ("not UTF-8", b'{"form": 1, "keys": ["\xff"]}', ["0"]),
    ("a list", "[]", ["1"]),
    ("null", "null", ["1"]),
    ("nested", "[" * 100_000, ["0"]),
    ("a number of many digits", f'{{"form": {"1" * 5000}, "keys": []}}', ["0"]),
    ("NaN", '{"form": 1, "keys": [{"name": "k", "rps": NaN}]}', ["0"]),
    ("a key twice", '{"form": 1, "keys": [], "keys": []}', ["0"]),
    ("an entry's key twice", f'{{"form": 1, "keys": [{{"name": "a", "name": "b", "sha256": "{A}"}}]}}', ["0"]),
    ("no form", '{"keys": []}', ["form"]),
    ("an older form", '{"form": 0, "keys": []}', ["form"]),
    ("a newer form", '{"form": 2, "keys": 3}', ["form"]),
    ("no keys", '{"form": 1}', ["keys"]),
    ("keys of another kind", '{"form": 1, "keys": {}}', ["keys"]),
    ("an unknown key", whole(more=1), ["more"]),
    ("an entry of another kind", whole(3), ["keys[0]"]),
    ("a key in place of an entry", whole(KEY), ["keys[0]"]),
    ("no name", whole(entry(name=None)), ["keys[0].name"]),
    ("no digest", whole(entry(sha256=None)), ["keys[0]"]),
    ("digest and subject", whole(entry(subject="cn")), ["keys[0]"]),
    ("a key for a digest", whole(entry(sha256=KEY)), ["keys[0].sha256"]),
    ("a key for a name", whole(entry(name=KEY)), ["keys[0].name"]),
    ("a digest too short", whole(entry(sha256=A[1:])), ["keys[0].sha256"]),
    ("a digest of other letters", whole(entry(sha256="g" * 64)), ["keys[0].sha256"]),
    ("a digest of another kind", whole(entry(sha256=3)), ["keys[0].sha256"]),
    ("no digests", whole(entry(sha256=[[]])), ["keys[0].sha256"]),
    ("too many digests", whole(entry(sha256=[f"{n:064x}" for n in range(9)])), ["keys[0].sha256"]),
    ("half a character", whole(entry(name="\ud800")), ["keys[0].name"]),
    ("a name with an end of line", whole(entry(name="a\n")), ["keys[0].name"]),
    ("a subject with a blank", whole(entry(sha256=None, subject="a b")), ["keys[0].subject"]),
    ("an unknown scope", whole(entry(scope="cal")), ["keys[0].scope"]),
    ("an unknown key of an entry", whole(entry(fuctions=["f"])), ["keys[0].fuctions"]),
    ("functions that are none", whole(entry(functions=["a b"])), ["keys[0].functions[0]"]),
    ("no rate", whole(entry(rps=-1)), ["keys[0].rps"]),
    ("a rate that is text", whole(entry(rps="20")), ["keys[0].rps"]),
    ("a count that is none", whole(entry(in_flight=1.5)), ["keys[0].in_flight"]),
    ("no date", whole(entry(expires="tomorrow")), ["keys[0].expires"]),
    ("a time of no zone", whole(entry(expires="2027-01-01T00:00:00")), ["keys[0].expires"]),
    ("former keys of none", whole(entry(sha256=None, subject="c", former=[{"sha256": B, "until": "2027-01-01"}])), ["keys[0].former"]),
    ("a former key without an end", whole(entry(former=[{"sha256": B}])), ["keys[0].former[0].until"]),
    ("two of one name", whole(entry(), entry(sha256=B)), ["keys[1].name"]),
    ("two of one digest", whole(entry(), entry(name="l")), ["keys[1].sha256"]),
    ("two of one former digest", whole(entry(), entry(name="l", sha256=B, former=[{"sha256": A, "until": "2027-01-01"}])), ["keys[1].former"]),
    ("two of one subject", whole(entry(sha256=None, subject="c"), entry(name="l", sha256=None, subject="c")), ["keys[1].subject"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "where"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN]
)
def test_a_broken_file_is_refused_whole(tmp_path, text, where):
    """With what is wrong and where; a key that stands in it is not repeated."""
    problems = refused(tmp_path, text)
    assert [one.rpartition(": ")[2] for one in places(problems)] == where
    assert all(problem.file == str(tmp_path / "keys.json") for problem in problems)
    assert not any(KEY[3:20] in str(problem) for problem in problems)


def refused(folder, text):
    """What is wrong with a file of this text."""
    path = folder / "keys.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    with pytest.raises(DeclarationError) as raised:
        read_keys(path)
    return problems_in(raised.value)


def test_what_is_wrong_in_a_file_written_by_hand_has_its_line(tmp_path):
    """Also where an entry takes several."""
    path = tmp_path / "keys.json"
    path.write_text(
        f'{{"form": 1, "keys": [\n  {{"name": "a", "sha256": "{A}"}},\n'
        f'  {{"name": "b",\n   "sha256": "{B}",\n   "rps": "20"}}\n]}}\n'
    )
    with pytest.raises(DeclarationError) as refused:
        read_keys(path)
    assert places(problems_in(refused.value)) == ["5: keys[1].rps"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([A, KEY, "call", "2027-01-01", "k"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "sha256", "subject", "functions", "scope", "rps", "expires", "former", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(keys=JSON)
def test_a_hostile_file_is_read_or_refused(tmp_path_factory, keys):
    """Nothing else comes of it: no other error, no key in a message."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps({"form": 1, "keys": keys}))
    error = None
    try:
        read = read_keys(path)
    except DeclarationError as raised:
        error = raised
    if error is None:
        assert all(isinstance(key, AccessKey) for key in read)
    else:
        assert error.problems
        assert KEY[3:20] not in str(error)


@given(content=st.binary(max_size=200))
def test_bytes_are_read_or_refused(tmp_path_factory, content):
    """Whatever they are."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_bytes(content)
    with pytest.raises(DeclarationError):
        read_keys(path)


USER, OTHER = 1000, 1001


@pytest.mark.parametrize(
    ("mode", "owner", "words"),
    [
        (stat.S_IFREG | 0o600, USER, ()),
        (stat.S_IFREG | 0o444, 0, ()),
        (stat.S_IFREG | 0o644, USER, ()),
        (stat.S_IFREG | 0o600, OTHER, ("1001", "1000")),
        (stat.S_IFREG | 0o620, USER, ("chmod",)),
        (stat.S_IFREG | 0o602, 0, ("chmod",)),
        (stat.S_IFDIR | 0o700, USER, ("file",)),
        (stat.S_IFIFO | 0o600, USER, ("file",)),
        (stat.S_IFCHR | 0o600, 0, ("file",)),
    ],
)
def test_a_file_that_others_could_change_is_not_trusted(mode, owner, words):
    """One that others only read is: there are digests in it."""
    reason = distrust_reason(SimpleNamespace(st_mode=mode, st_uid=owner), USER)
    assert bool(reason) == bool(words)
    expect_values(reason, *words)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    """A pipe that nothing writes into would hold a server."""
    path = tmp_path / "keys.json"
    os.mkfifo(path)
    with pytest.raises(DeclarationError) as refused:
        read_keys(path)
    assert problems_in(refused.value)[0].file == str(path)


def test_a_file_of_more_bytes_than_are_read(tmp_path, monkeypatch):
    """The last that fits is read."""
    path = tmp_path / "keys.json"
    path.write_text(whole(entry()))
    monkeypatch.setattr(key_file, "MAX_BYTES", path.stat().st_size)
    assert len(read_keys(path)) == 1
    monkeypatch.setattr(key_file, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(DeclarationError) as refused:
        read_keys(path)
    assert problems_in(refused.value)[0].key == ""


def test_one_command_at_a_time_changes_a_file(tmp_path):
    """Of many that add a key at once, each is there afterwards; one that waits too long says so."""
    path = tmp_path / "keys.json"

    def add(number):
        with hold_keys(path, timeout_s=30):
            write_keys(
                path,
                with_key(read_keys(path), AccessKey(f"k{number}", (KeyDigest(f"{number:064x}"),))),
            )

    threads = [threading.Thread(target=add, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(key.name for key in read_keys(path)) == [f"k{number}" for number in range(8)]
    with hold_keys(path), pytest.raises(KeyRefused) as refused, hold_keys(path, timeout_s=0):
        pass
    expect_values(refused.value, str(path))
