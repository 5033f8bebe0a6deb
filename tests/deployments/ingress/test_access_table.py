"""HAProxy is told of keys while it runs, on each machine; the real program."""

from __future__ import annotations

import threading
from dataclasses import replace

import httpx
import pytest

from deployments.ingress import admin_socket
from deployments.ingress.access_table import (
    TABLE_KEY,
    VERSION_KEY,
    AccessTable,
    KeyKeeper,
    publish,
    published_maps,
    wait_known,
)
from deployments.ingress.haproxy.access import access_maps, make_files
from deployments.ray_support.driver_client import RayError
from deployments.ray_support.state_dir import ClusterState, StateDir
from runtime.declaration.http_section import MAX_FUNCTIONS
from tests.deployments.ingress.haproxy.proxies import (
    OURS,
    at,
    free,
    ours,
    replicas,
    started,
    written,
)
from tests.deployments.ingress.keyed import PREFIXES, Keys, ask, proxied, status_of
from tests.deployments.projects import wait_until
from tests.problems import expect_values

pytestmark = pytest.mark.slow


class Head:
    """The key-value store of Ray's head."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def put(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str | None:
        return self.values.get(key)


def call(proxy, key: str, target: str = "/f/a") -> int:
    """The status of a call with a key."""
    return status_of(ask(proxy, target, f"x-api-key: {key}"))


def test_a_key_is_added_changed_and_removed_while_haproxy_runs(tmp_path):
    """And one that is not concerned is answered all the time, as is one that gets other functions."""
    keys = Keys()
    steady = keys.add("steady", functions=frozenset({"a"}))
    with proxied(tmp_path, keys.known) as proxy:
        table = AccessTable(tmp_path)
        table.set_maps(access_maps(keys.known, PREFIXES))
        refused: list[int] = []
        is_over = threading.Event()

        def follow(key: str) -> None:
            with httpx.Client(timeout=60) as client:
                while not is_over.wait(0.005):
                    answer = client.post(
                        f"{proxy.url}/f/a", content=b"", headers={"x-api-key": key}
                    )
                    if answer.status_code != 200:
                        refused.append(answer.status_code)

        moving = keys.add("moving", functions=frozenset({"a"}))
        table.set_maps(access_maps(keys.known, PREFIXES))
        callers = [threading.Thread(target=follow, args=(key,)) for key in (steady, moving)]
        for caller in callers:
            caller.start()
        try:
            for number in range(8):
                added = keys.add(f"k{number}")
                functions = frozenset({"a", f"other{number}"})
                keys.known[1] = replace(keys.known[1], functions=functions)
                table.set_maps(access_maps(keys.known, PREFIXES))
                assert call(proxy, added) == 200
                keys.known.pop()
                table.set_maps(access_maps(keys.known, PREFIXES))
                assert call(proxy, added) == 401
        finally:
            is_over.set()
            for caller in callers:
                caller.join()
        assert refused == []
        grants = admin_socket.send_command(table.socket, "show map grants.map")
        assert grants.count(":other7 ") == grants.count(":other") == 1


def test_what_opens_nothing_more_is_closed_at_once(tmp_path):
    """A key that loses a function, and a function that loses its prefix to another."""
    keys = Keys()
    key = keys.add("k", functions=frozenset({"a", "ab"}))
    with proxied(tmp_path, keys.known) as proxy:
        table = AccessTable(tmp_path)
        assert call(proxy, key, "/f/ab") == 200
        keys.known[0] = replace(keys.known[0], functions=frozenset({"a"}))
        table.set_maps(access_maps(keys.known, PREFIXES))
        assert [call(proxy, key, target) for target in ("/f/a", "/f/ab")] == [200, 404]
        table.set_maps(access_maps(keys.known, {**PREFIXES, "/f/a": "ab", "/f/ab": "a"}))
        assert [call(proxy, key, target) for target in ("/f/a", "/f/ab")] == [404, 200]


def test_ten_thousand_keys_are_told_and_each_is_known(tmp_path):
    """In as many pieces as HAProxy takes."""
    keys = Keys()
    first = keys.add("first")
    for number in range(3000):
        keys.add(f"k{number}", functions=frozenset({f"f{number % 50}"}))
    last = keys.add("last", functions=frozenset({"a"}))
    make_files(tmp_path)
    with proxied(tmp_path, None) as proxy:
        assert call(proxy, first) == 503
        AccessTable(tmp_path).set_maps(access_maps(keys.known, PREFIXES))
        assert [call(proxy, key) for key in (first, last, keys.sent["k7"])] == [200, 200, 404]


def test_a_haproxy_that_is_started_anew_has_the_keys(tmp_path):
    """From the files; one that read them before they were written is told."""
    keys = Keys()
    key = keys.add("k")
    table = AccessTable(tmp_path)
    table.set_maps(access_maps(keys.known, PREFIXES))  # none runs
    with proxied(tmp_path, None) as proxy:
        assert call(proxy, key) == 200
    for path in tmp_path.glob("*.map"):
        path.write_text("")
    with proxied(tmp_path, None) as proxy:
        assert call(proxy, key) == 503
        table.refresh()
        assert call(proxy, key) == 200
        proxy.tell("clear map keys.map")
        table.refresh()  # the process that knows is not told again
        assert call(proxy, key) == 401


def test_files_that_could_not_be_written_are_written_at_the_next_look(tmp_path):
    """Or a HAProxy that is started anew would know a key that was removed."""
    keys, head = Keys(), Head()
    keys.add("k")
    keeper = KeyKeeper(tmp_path / "p", tmp_path)
    publish(head, is_on=True, maps=access_maps(keys.known, PREFIXES))
    with pytest.raises(FileNotFoundError):
        keeper.look(head)
    (tmp_path / "p").mkdir()
    keeper.look(head)
    assert (tmp_path / "p" / "keys.map").read_text()


def test_a_map_that_haproxy_does_not_take_stays_as_it_was(tmp_path):
    """Of one that it does not know, and of entries that are too long for it, it takes nothing."""
    keys = Keys()
    key = keys.add("k")
    with proxied(tmp_path, keys.known) as proxy:
        socket = tmp_path / "s"
        assert not admin_socket.replace_map(socket, "none.map", {"a": "b"})
        assert not admin_socket.replace_map(socket, "keys.map", {"a": "b", "c": "d" * 200_000})
        assert call(proxy, key) == 200
        assert not admin_socket.replace_map(tmp_path / "none", "keys.map", {})
        assert admin_socket.has_map(socket, "keys.map")
        assert admin_socket.has_map(socket, "none.map") is False
        assert admin_socket.has_map(tmp_path / "none", "keys.map") is None


def test_a_key_may_name_as_many_functions_as_haproxy_takes(tmp_path, caplog):
    """With the longest names; what it does not take is said, once, and what it had goes on."""
    keys = Keys()
    functions = [f"{number:03}".ljust(128, "x") for number in range(MAX_FUNCTIONS - 1)]
    key = keys.add("k", functions=frozenset([*functions, "a"]), scopes=frozenset({"call", "look"}))
    make_files(tmp_path)
    with proxied(tmp_path, None) as proxy:
        table = AccessTable(tmp_path)
        table.set_maps(access_maps(keys.known, PREFIXES))
        assert call(proxy, key) == 200
        assert status_of(ask(proxy, "/f/a", f"x-api-key: {key}", method="GET")) == 200
        assert caplog.messages == []
        keys.add("beyond", functions=frozenset(["a" * 200_000]))
        table.set_maps(access_maps(keys.known, PREFIXES))
        table.refresh()
        assert len(caplog.messages) == 1
        assert call(proxy, key) == 200


def test_a_machine_has_what_the_head_has(tmp_path):
    """Nothing before the head has it; a HAProxy that is not to ask for keys and does, or the other way
    round, is to be started anew, once.
    """
    keys, head = Keys(), Head()
    key = keys.add("k")
    home = StateDir(tmp_path / "h")
    home.path.mkdir()
    folder = tmp_path / "p"
    folder.mkdir()
    make_files(folder)
    state = ClusterState("node", "h:1", "0.0.0.0", 8000, "", "/", "/")
    home.save(state)
    with proxied(folder, None) as proxy:
        keeper = KeyKeeper(folder, home.path)
        assert keeper.look(head) is False
        assert call(proxy, key) == 503
        publish(head, is_on=True, maps=None)
        assert keeper.look(head) is False
        assert home.load().auth
        assert call(proxy, key) == 503
        maps = access_maps(keys.known, PREFIXES)
        publish(head, is_on=True, maps=maps)
        assert published_maps(head) == maps
        assert keeper.look(head) is False
        assert call(proxy, key) == 200
        publish(head, is_on=False, maps=None)
        assert [keeper.look(head) for _ in range(3)] == [True, False, False]
        assert home.load().auth is None
        publish(head, is_on=True, maps=maps)
        assert keeper.look(head) is False
    with replicas(1) as ports:
        port = free()
        with started(folder, ours(written(folder, port, at(ports)), OURS), port) as proxy:
            wait_until(lambda: admin_socket.process_id(folder / "s") == proxy.pid)
            assert [keeper.look(head) for _ in range(3)] == [True, False, False]
        assert keeper.look(head) is False  # none runs


def test_only_a_machine_that_joined_is_told_whether_keys_are_on(tmp_path):
    """On the head `up` has written it down, and may be writing."""
    head = Head()
    home = StateDir(tmp_path / "h")
    home.path.mkdir()
    home.save(ClusterState("own", "h:1", "127.0.0.1", 8000, "", "/", "/"))
    before = (home.path / "up.json").read_bytes()
    publish(head, is_on=True, maps=None)
    KeyKeeper(tmp_path, home.path).look(head)
    assert (home.path / "up.json").read_bytes() == before


def test_what_the_head_has_is_asked_for_by_its_version(tmp_path):
    """The table may be a megabyte."""
    asked: list[str] = []

    class Asked(Head):
        def get(self, key: str) -> str | None:
            asked.append(key)
            return super().get(key)

    head = Asked()
    keeper = KeyKeeper(tmp_path, tmp_path)
    publish(head, is_on=True, maps=access_maps([], PREFIXES))
    for _ in range(3):
        keeper.look(head)
    assert asked == [VERSION_KEY, TABLE_KEY, VERSION_KEY, VERSION_KEY]


def test_up_waits_until_functions_are_known(tmp_path):
    """By the file of this machine's HAProxy."""
    folder = tmp_path / "hap" / "node"
    folder.mkdir(parents=True)
    AccessTable(folder).set_maps(access_maps([], {"/f/a": "a"}))
    wait_known(tmp_path, ["/f/a"], timeout_s=0)
    with pytest.raises(RayError) as refused:
        wait_known(tmp_path, ["/f/a", "/f/new"], timeout_s=0)
    expect_values(refused.value, "/f/new/", "0 s")
