"""Which keys there are is written down for all machines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from deployments.control.declarations import FunctionDeclaration
from deployments.ingress.access_table import TABLE_KEY, VERSION_KEY
from deployments.ingress.haproxy.access import ALL
from deployments.placement import key_publisher
from deployments.placement.key_publisher import KeyPublisher, other_prefixes, prefixes_of
from deployments.ray_support.haproxy_names import KEYS_FAULT
from runtime.declaration.access import key_table
from runtime.declaration.access.key_file import write_keys
from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from runtime.errors import DeclarationError, Problem

A, B = make_key(), make_key()


class Head:
    """The key-value store of Ray's head; fails while it is told to, and counts how often."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.puts: list[str] = []
        self.is_away = False
        self.failed = 0

    def put(self, key: str, value: str) -> None:
        if self.is_away:
            self.failed += 1
            raise ConnectionError("no head")
        self.puts.append(key)
        self.values[key] = value

    def get(self, key: str) -> str | None:
        return self.values.get(key)

    def table(self) -> dict[str, Any]:
        """What machines read."""
        found: dict[str, Any] = json.loads(self.values.get(TABLE_KEY, "{}"))
        return found

    def names(self) -> set[str]:
        """Of the keys."""
        return {
            value.split("|")[1]
            for value in (self.table().get("maps") or {}).get("keys", {}).values()
        }


def write_up(home: Path, auth: object, deployed: object = ()) -> None:
    """As `up` does."""
    draft = home / "up.json.new"
    draft.write_text(json.dumps({"auth": auth, "deployed": deployed}))
    draft.replace(home / "up.json")


def key(name: str, sent: str) -> AccessKey:
    """A key of the file."""
    return AccessKey(name, (KeyDigest(digest_of(sent)),))


async def come_about(holds: Any) -> None:
    """Within 30 s."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def run(home: Path, head: Head, functions: dict[str, str], steps: Any) -> None:
    """Some steps, while keys are published."""
    publisher = KeyPublisher(lambda: functions, head, home)  # type: ignore[arg-type]
    try:
        assert await asyncio.sleep(0.05, head.values) == {}  # nothing is declared yet
        publisher.notify_declared()
        await steps(publisher)
    finally:
        await publisher.close()
        await publisher.close()


@pytest.mark.slow
def test_keys_are_published_as_they_change(tmp_path: Path):
    """Those of the file and those that are declared; what has not changed is not written again; a file
    that is damaged leaves the keys as they were, and `status` says so.
    """
    head, file = Head(), tmp_path / "keys.json"
    declared = {"name": "declared", "sha256": [digest_of(B)], "scope": ["call", "look"]}
    auth = {"file": str(file), "keys": [declared]}
    functions = {"/v2/models/a": "a"}
    write_up(tmp_path, auth, [{"route_prefix": "/shop", "role": "other"}])

    async def steps(publisher: KeyPublisher) -> None:
        await come_about(lambda: head.names() == {"declared"})
        assert head.table()["is_on"] is True
        functions_known = head.table()["maps"]["functions"]
        assert (functions_known["/shop/"], functions_known["/v2/models/a/"]) == (ALL, "a")
        write_keys(file, [key("mine", A)])
        await come_about(lambda: head.names() == {"declared", "mine"})
        functions["/v2/models/b"] = "b"
        publisher.notify_declared()
        await come_about(lambda: "/v2/models/b/" in head.table()["maps"]["functions"])
        before = list(head.puts)
        publisher.notify_declared()
        await asyncio.sleep(0.05)
        assert head.puts == before

        fault = tmp_path / KEYS_FAULT
        file.write_text("{")
        await come_about(fault.exists)
        assert "keys stay as they were" in fault.read_text()
        assert head.names() == {"declared", "mine"}
        write_keys(file, [key("other", A)])
        await come_about(lambda: head.names() == {"declared", "other"})
        assert not fault.exists()

        head.is_away = True
        write_keys(file, [])
        await come_about(lambda: head.failed)
        head.is_away = False
        await come_about(lambda: head.names() == {"declared"})

        write_up(tmp_path, None)
        await come_about(lambda: head.table() == {"is_on": False, "maps": None})
        write_up(tmp_path, {**auth, "keys": []})
        await come_about(lambda: head.table()["is_on"] and head.names() == set())

    asyncio.run(run(tmp_path, head, functions, steps))


def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(tmp_path: Path, monkeypatch: Any):
    """What is wrong is written down once, and the keys of before are published once."""
    monkeypatch.setattr(key_publisher, "LOOK_S", 0.01)
    head, file, fault = Head(), tmp_path / "keys.json", tmp_path / KEYS_FAULT
    write_up(tmp_path, {"file": str(file), "keys": []})
    write_keys(file, [key("mine", A)])
    failed: list[bool] = []
    read_keys = key_table.read_keys

    def fails(path: Path) -> Any:
        failed.append(fault.exists())
        raise DeclarationError([Problem(str(path), 0, "", "cannot be read")]) from OSError(5, "")

    async def steps(publisher: KeyPublisher) -> None:
        await come_about(lambda: head.names() == {"mine"})
        monkeypatch.setattr(key_table, "read_keys", fails)
        write_keys(file, [])
        await come_about(lambda: failed.count(True) > 1)
        published = len(head.puts)
        fault.unlink()
        await come_about(lambda: failed[-3:] == [False] * 3)
        assert len(head.puts) == published
        assert head.names() == {"mine"}
        monkeypatch.setattr(key_table, "read_keys", read_keys)
        await come_about(lambda: head.names() == set())

    asyncio.run(run(tmp_path, head, {}, steps))


def test_without_a_file_that_can_be_read_keys_are_on_and_none_is_known(tmp_path: Path):
    """Those that were known before, by a catalogue that has ended, stay."""
    head, file = Head(), tmp_path / "keys.json"
    file.write_text("{")
    write_up(tmp_path, {"file": str(file), "keys": []})

    async def is_on(_: KeyPublisher) -> None:
        await come_about(lambda: VERSION_KEY in head.values)
        assert head.table() == {"is_on": True, "maps": None}

    async def is_known(_: KeyPublisher) -> None:
        await come_about(lambda: head.names() == {"mine"})

    async def is_kept(_: KeyPublisher) -> None:
        await come_about(lambda: (tmp_path / KEYS_FAULT).exists())
        assert head.names() == {"mine"}

    asyncio.run(run(tmp_path, head, {}, is_on))
    write_keys(file, [key("mine", A)])
    head.values.clear()
    asyncio.run(run(tmp_path, head, {}, is_known))
    file.write_text("{")
    known, head.values = dict(head.values), {}
    asyncio.run(run_again(tmp_path, head, known, is_kept))


async def run_again(home: Path, head: Head, known: dict[str, str], steps: Any) -> None:
    """With what another one has published."""
    head.values.update(known)
    publisher = KeyPublisher(dict, head, home)  # type: ignore[arg-type]
    publisher.notify_declared()
    try:
        await steps(publisher)
    finally:
        await publisher.close()


def test_functions_are_found_by_all_their_prefixes():
    """What one has for its own is rather that one's; no client calls a stage of one."""
    a = FunctionDeclaration("a", "/a", {}, False, "v", also_at=("/old", "/b"))
    b = FunctionDeclaration("b", "/b", {}, False, "v")
    part = FunctionDeclaration("a.stage", "/a.stage", {}, True, "v", part_of="a")
    assert prefixes_of([b, a, part]) == {"/a": "a", "/old": "a", "/b": "b"}


def test_other_applications_have_their_prefixes():
    """But for one at the root, and what has none."""
    deployed = [
        {"route_prefix": "/shop", "role": "other"},
        {"route_prefix": "/", "role": "other"},
        {"route_prefix": "", "role": "other"},
        {"route_prefix": "/v2/models", "role": "host"},
        {"route_prefix": "/v2/models/a", "role": "function"},
    ]
    assert other_prefixes(deployed) == {"/shop": ALL}
