"""`wakeful run` asks for keys: HAProxy stands before it and compares them, real clients send them,
and `wakeful keys` changes them while it runs.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton

from runtime.declaration.access.changes import with_key, with_rotated, without_key
from runtime.declaration.access.key_file import hold_keys, read_keys, write_keys
from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key
from tests.deployments.local.running import shell
from tests.deployments.projects import wait_until

pytestmark = pytest.mark.slow

FILE = """\
http: {auth: {file: keys.json}}
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: hello, args: {graph: [{stage: greet, python: "of_a_test:greet"}]}}
  - {name: inner, route_prefix: /v2/models/hello/inner, args: {graph: [{stage: greet, python: "of_a_test:greet"}]}}
  - {name: calls, args: {graph: [{stage: s, function: inner}]}}
  - {name: headers, args: {graph: [{stage: s, python: "of_a_test:heard"}]}}
  - {name: vowels, args: {graph: [{stage: s, python: "tests.task_stages:embed"}], task: embedding}}
  - {name: short, args: {graph: [{stage: s, python: "tests.task_stages:shorten"}], task: embedding}}
"""

STAGES = """\
from typing import Annotated
from wakeful import Header

def greet(name: str) -> dict[str, str]:
    return {"greeting": f"hello {name}"}

def heard(
    name: str,
    bearer: Annotated[str, Header("authorization")] = "",
    key: Annotated[str, Header("x-api-key")] = "",
) -> dict[str, str]:
    return {"heard": bearer + key}
"""

BODY = {"name": "bo"}


def add_key(made, name, *options):
    """A key that was made by the command."""
    done = made.run("keys", "add", name, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def change(made, by):
    """As a command changes the file of keys, without one's start."""
    path = made.folder / "keys.json"
    with hold_keys(path):
        write_keys(path, by(read_keys(path)))


def give(made, name, **opened):
    """A key of this name."""
    key = make_key()
    new = AccessKey(name, (KeyDigest(digest_of(key)),), **opened)
    change(made, lambda held: with_key(held, new))
    return key


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project whose file asks for keys."""
    with shell(tmp_path_factory.mktemp("keys")) as made:
        (made.folder / "of_a_test.py").write_text(STAGES)
        (made.folder / "serve_config.yaml").write_text(FILE)
        yield made


@pytest.fixture(scope="module")
def all_of_it(made):
    """A key of everything, there before the server is."""
    return add_key(made, "all", "--scope", "call,look,operate")


@pytest.fixture(scope="module")
def run(made, all_of_it):
    """One process, with HAProxy before it."""
    with made.serving() as running:
        assert running.url
        yield running


def bearer(key):
    """The header that curl and `openai` send."""
    return {"authorization": f"Bearer {key}"}


def call(run, name, headers=None):
    """A call of a function, on a connection of its own."""
    return httpx.post(f"{run.url}/v2/models/{name}", json=BODY, headers=headers, timeout=60)


def refused(response):
    """Status and code of an error in our form."""
    return response.status_code, response.json()["code"]


def test_without_a_key_nothing_but_live_is_answered(run):
    """Whatever the path and the method."""
    for method, path in [
        ("POST", "/v2/models/hello"),
        ("POST", "/v2/models/hello/infer"),
        ("POST", "/v2/models/none"),
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v2/repository/index"),
        ("POST", "/v2/repository/models/hello/unload"),
    ]:
        answer = httpx.request(method, run.url + path, json=BODY if method == "POST" else None)
        assert refused(answer) == (401, "unauthorized"), path
        assert answer.headers["www-authenticate"] == "Bearer"
    error = httpx.post(f"{run.url}/v1/embeddings", json={"model": "vowels", "input": "a"}).json()
    assert error["error"]["code"] == "unauthorized"
    assert httpx.get(f"{run.url}/v2/health/live").status_code == 200


def test_a_key_opens_all_or_what_it_names(made, run, all_of_it):
    """In either header; what it does not open is answered as what is not there."""
    for headers in (bearer(all_of_it), {"x-api-key": all_of_it}):
        assert call(run, "hello", headers).json() == {"greeting": "hello bo"}
    key = give(made, "narrow", functions=frozenset({"hello", "calls"}))
    wait_until(lambda: call(run, "hello", bearer(key)).status_code == 200)
    other, none = call(run, "vowels", bearer(key)), call(run, "vowelz", bearer(key))
    assert other.status_code == none.status_code == 404
    nested = call(run, "hello/inner", bearer(key))
    assert nested.status_code == 404, "a function below another one's prefix is another one"
    assert call(run, "calls", bearer(key)).status_code == 200, "what it calls needs no key"
    both = call(run, "hello", {**bearer(key), "x-api-key": all_of_it})
    assert refused(both) == (401, "unauthorized")


def test_an_encoded_slash_leads_past_no_scope(made, run):
    """To HAProxy, and to the process behind it, the path is another one."""
    keys = [give(made, scope, scopes=frozenset({scope})) for scope in ("call", "look")]
    wait_until(lambda: call(run, "hello", bearer(keys[0])).status_code == 200)
    plain = "/v2/repository/models/hello/unload"
    slashes = [at for at, letter in enumerate(plain) if letter == "/" and at]
    for key in keys:
        for at in slashes:
            path = f"{plain[:at]}%2F{plain[at + 1 :]}"
            answer = httpx.post(run.url + path, headers=bearer(key))
            assert answer.status_code in (403, 404), path
    body = {"model": "vowels", "input": "abc", "query": "a", "documents": ["b"]}
    for route in ("embeddings", "rerank", "moderations"):
        for path in (f"/v1%2F{route}", f"/v1%2f{route}", f"/%761%2F{route}"):
            answer = httpx.post(run.url + path, json=body, headers=bearer(keys[1]), timeout=60)
            assert refused(answer) == (404, "not_found"), path
            assert httpx.post(run.url + path, json=body).status_code == 401


def test_a_stage_sees_no_key(run, all_of_it):
    """Of whatever header it was in."""
    for headers in (bearer(all_of_it), {"x-api-key": all_of_it}):
        assert call(run, "headers", headers).json() == {"heard": ""}


def test_a_client_cannot_say_what_haproxy_says(run, all_of_it):
    """Neither that it came through the edge, nor what its key is."""
    forged = {"x-wakeful-key": "all", "x-wakeful-functions": "*", "x-wakeful-edge": "1"}
    assert refused(call(run, "hello", forged)) == (401, "unauthorized")
    behind = [
        process.pid
        for process in psutil.Process(run.process.pid).children(recursive=True)
        if "haproxy" not in process.name()
    ]
    ports = {
        one.laddr.port
        for one in psutil.net_connections("tcp")
        if one.pid in behind and one.status == psutil.CONN_LISTEN
    }
    assert ports
    for port in ports:
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v2/models/hello",
            json=BODY,
            headers={**forged, **bearer(all_of_it)},
        )
        assert refused(answer) == (403, "not_through_edge")


def test_keys_change_while_it_runs(made, run):
    """One is added, rotated and removed; no call of another is refused."""
    key, second, third = give(made, "passing"), make_key(), make_key()

    def rotate(key, keep_s):
        now, digest = time.time(), digest_of(key)
        change(made, lambda held: with_rotated(held, "passing", digest, now, keep_s))

    wait_until(lambda: call(run, "hello", bearer(key)).status_code == 200)
    rotate(second, 600.0)
    wait_until(lambda: call(run, "hello", bearer(second)).status_code == 200)
    assert call(run, "hello", bearer(key)).status_code == 200
    rotate(third, 0.0)
    wait_until(lambda: call(run, "hello", bearer(key)).status_code == 401)
    assert call(run, "hello", bearer(second)).status_code == 401
    assert call(run, "hello", bearer(third)).status_code == 200
    change(made, lambda held: without_key(held, "passing"))
    wait_until(lambda: call(run, "hello", bearer(third)).status_code == 401)


def test_keys_that_cannot_be_read_change_nothing(made, run, all_of_it):
    """The server says so, and goes on with those that it has."""
    file = made.folder / "keys.json"
    before = file.read_text()
    file.write_text("{")
    try:
        run.wait_for("keys stay as they were")
        assert call(run, "hello", bearer(all_of_it)).status_code == 200
        assert call(run, "hello").status_code == 401
    finally:
        file.write_text(before)
    key = give(made, "afterwards")
    wait_until(lambda: call(run, "hello", bearer(key)).status_code == 200)


@pytest.mark.full  # tests/deployments/ingress/test_haproxy_key_limits.py has all limits, before another server
def test_a_key_has_its_limits(made, run):
    """Of one second, and of others none."""
    key, other = give(made, "limited", rps=2.0), give(made, "unlimited")
    wait_until(lambda: call(run, "hello", bearer(other)).status_code == 200)
    with httpx.Client(headers=bearer(key)) as client:
        answers = [client.post(f"{run.url}/v2/models/hello", json=BODY) for _ in range(20)]
    late = [answer for answer in answers if answer.status_code == 429]
    assert late, "20 calls take less than ten seconds"
    assert {refused(answer) for answer in late} == {(429, "key_limit")}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in late)
    assert call(run, "hello", bearer(other)).status_code == 200


@pytest.mark.full  # test_a_key_opens_all_or_what_it_names sends the same header
def test_curl(run, all_of_it):
    """As docs/keys.md has it."""
    done = subprocess.run(
        [
            *("curl", "-s", "--max-time", "60", "-H", f"Authorization: Bearer {all_of_it}"),
            *(f"{run.url}/v2/models/hello", "-H", "content-type: application/json"),
            *("-d", json.dumps(BODY)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"greeting": "hello bo"}


def test_a_key_of_one_function_finds_no_other_at_v1(made, run):
    """It lists that and calls it."""
    key = give(made, "v1", functions=frozenset({"vowels"}))
    wait_until(lambda: call(run, "vowels/ready", bearer(key)).status_code != 401)

    def embed(model, sent):
        body = {"model": model, "input": ["abc"], "encoding_format": "float"}
        return httpx.post(f"{run.url}/v1/embeddings", json=body, headers=bearer(sent), timeout=60)

    assert embed("vowels", key).json()["data"][0]["embedding"] == [1.0, 2.0, 0.0]
    listed = httpx.get(f"{run.url}/v1/models", headers=bearer(key), timeout=60).json()["data"]
    assert [one["id"] for one in listed] == ["vowels"]
    other, none = embed("short", key), embed("shortt", key)
    assert other.status_code == none.status_code == 404
    assert other.json()["error"]["code"] == none.json()["error"]["code"]
    assert embed("vowels", f"{key}x").status_code == 401


@pytest.mark.full  # the test before sends the same; openai takes a second to import
def test_openai(made, run):
    """A key of one function lists that, calls it, and finds no other."""
    import openai

    key = give(made, "openai", functions=frozenset({"vowels"}))
    wait_until(lambda: call(run, "vowels/ready", bearer(key)).status_code != 401)
    with openai.OpenAI(base_url=f"{run.url}/v1", api_key=key, max_retries=0) as client:
        found = client.embeddings.create(model="vowels", input=["abc"], encoding_format="float")
        assert found.data[0].embedding == [1.0, 2.0, 0.0]
        assert [one.id for one in client.models.list()] == ["vowels"]
        with pytest.raises(openai.NotFoundError) as other:
            client.embeddings.create(model="short", input=["abc"])
        with pytest.raises(openai.NotFoundError) as none:
            client.embeddings.create(model="shortt", input=["abc"])
        assert other.value.code == none.value.code
    with (
        openai.OpenAI(base_url=f"{run.url}/v1", api_key=f"{key}x", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.embeddings.create(model="vowels", input=["abc"])


class KeyAuth(triton.InferenceServerClientPlugin):
    """As docs/keys.md has it."""

    def __init__(self, key):
        self.key = key

    def __call__(self, request):
        """Adds the key to each request."""
        request.headers["x-api-key"] = self.key


def test_tritonclient(run, all_of_it):
    """By a header of each call, and once by a plugin."""
    name = triton.InferInput("name", [1], "BYTES")
    name.set_data_from_numpy(np.array(["bo"], dtype=object))
    with triton.InferenceServerClient(run.url.removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready() is False, "without a key"
        answer = client.infer("hello", [name], headers={"x-api-key": all_of_it})
        assert answer.get_response()["model_name"] == "hello"
        client.register_plugin(KeyAuth(all_of_it))
        assert client.is_server_ready()
        assert client.infer("hello", [name]).get_response()["model_name"] == "hello"
        assert {one["name"] for one in client.get_model_repository_index()} >= {"hello", "vowels"}


@pytest.mark.full  # commands take seconds to start; test_options has their headers
def test_commands_of_the_server_s_user_need_no_key(made, run):
    """They reach it by its socket; a key of the environment is sent with a call."""
    listed = json.loads(made.run("status", "--json").stdout)
    assert "secret" not in json.dumps(listed)
    assert {"hello", "inner"} <= {one["name"] for one in listed}
    assert made.run("call", "hello", json.dumps(BODY)).returncode == 0
    assert made.run("sleep", "hello").returncode == 0
    made.more["WAKEFUL_KEY"] = "wk_none"
    try:
        done = made.run("call", "hello", json.dumps(BODY))
        assert (done.returncode, json.loads(done.stderr)["code"]) == (1, "unauthorized")
    finally:
        del made.more["WAKEFUL_KEY"]


@pytest.mark.full  # likewise
def test_a_key_reaches_a_command_by_the_environment(made, run, all_of_it):
    """By its URL, as from another machine."""
    asking = ["call", "hello", json.dumps(BODY), "--url", run.url]
    assert made.run(*asking).returncode == 1
    made.more["WAKEFUL_KEY"] = all_of_it
    try:
        assert json.loads(made.run(*asking).stdout) == {"greeting": "hello bo"}
        assert made.run("sleep", "hello", "--url", run.url).returncode == 0
    finally:
        del made.more["WAKEFUL_KEY"]


def test_no_key_is_written_down(made, run, all_of_it):
    """Neither among arguments of processes, nor in what the server writes."""
    call(run, "hello", bearer(all_of_it))
    call(run, "hello", bearer(f"{all_of_it[:-1]}x"))
    part = all_of_it[3:30]
    for process in psutil.Process(run.process.pid).children(recursive=True):
        assert part not in " ".join(process.cmdline())
        assert part not in str(process.environ())
    for path in (*made.folder.rglob("*"), *Path(made.short).rglob("*")):
        if path.is_file():
            assert part.encode() not in path.read_bytes(), path
    assert part not in json.dumps(run.events)


@pytest.mark.full  # one process is served in the same way
def test_workers_ask_for_keys_as_one_process_does(made, all_of_it):
    """Each is reached through HAProxy alone."""
    with made.serving("--workers", "2") as running:
        assert call(running, "hello").status_code == 401
        assert call(running, "hello", bearer(all_of_it)).status_code == 200
        index = httpx.get(running.url, headers={**bearer(all_of_it), "accept": "*/*"}).json()
        assert {one["name"] for one in index["functions"]} >= {"hello", "vowels"}


@pytest.mark.full  # test_front has another HAProxy for other rules
def test_a_reload_asks_for_keys(tmp_path):
    """Also for a function that an edit brings; no key and no connection changes that."""
    with shell(tmp_path) as made:
        made.write("hello")
        file = made.folder / "serve_config.yaml"
        file.write_text("http: {auth: {}}\n" + file.read_text())
        key, narrow = add_key(made, "all"), add_key(made, "narrow", "--functions", "hello")
        with made.serving("--reload") as running:
            assert call(running, "hello").status_code == 401
            assert call(running, "hello", bearer(key)).status_code == 200
            file.write_text(
                file.read_text()
                + '  - {name: more, args: {graph: [{stage: s, python: "hello_of_a_test:greet"}], limits: {replay: false}}}\n'
            )
            wait_until(lambda: call(running, "more", bearer(key)).status_code == 200)
            assert call(running, "more").status_code == 401
            assert call(running, "more", bearer(narrow)).status_code == 404
            assert call(running, "hello", bearer(narrow)).status_code == 200
            declared = make_key()
            file.write_text(
                file.read_text().replace(
                    "{auth: {}}",
                    f"{{auth: {{keys: [{{name: declared, sha256: {digest_of(declared)}}}]}}}}",
                )
            )
            wait_until(lambda: call(running, "more", bearer(declared)).status_code == 200)
            assert call(running, "hello", bearer(key)).status_code == 200
            file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
            running.wait_for("http.auth is gone")
            assert call(running, "hello").status_code == 401
            assert call(running, "hello", bearer(declared)).status_code == 200


@pytest.mark.full  # tests/runtime/declaration/access/test_asked.py has every case
@pytest.mark.parametrize(
    ("auth", "arguments", "words"),
    [
        ("", ["--host", "0.0.0.0"], ["0.0.0.0", "wakeful keys add", "--insecure"]),
        ("http: {auth: {}}\n", ["--insecure"], ["--insecure", "http.auth"]),
    ],
)
def test_what_is_not_served_says_why(tmp_path, auth, arguments, words):
    """Nothing is loaded first."""
    with shell(tmp_path) as made:
        file = made.folder / "serve_config.yaml"
        file.write_text(auth + file.read_text())
        done = made.run("run", "--port", "0", *arguments)
        assert done.returncode == 1
        for word in words:
            assert word in done.stderr
        assert "loading" not in done.stdout


@pytest.mark.full  # tests/runtime/declaration/access/test_asked.py has every case
def test_beyond_the_machine_keys_are_asked_for(tmp_path):
    """As soon as there is one; or nothing is, where that is said."""
    with shell(tmp_path) as made:
        file = made.folder / "serve_config.yaml"
        file.write_text("http: {connections_per_address: 7}\n" + file.read_text())
        with made.serving("--host", "0.0.0.0", "--insecure") as running:
            assert call(running, "hello").status_code == 200
            said = running.log.read_text()
            assert "--insecure" in said
            assert "http.connections_per_address: no effect" in said
            assert "--insecure" in made.run("status").stdout
        key = add_key(made, "one")
        with made.serving("--host", "0.0.0.0") as running:
            assert call(running, "hello").status_code == 401
            assert call(running, "hello", bearer(key)).status_code == 200
            assert "no effect" not in running.log.read_text()[len(said) :]
