"""`wakeful run`: the HTTP cases, a v2 client, and the ways an exchange can go wrong."""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from tests import basic, clients, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """The basic functions, served by `wakeful run`."""
    root = tmp_path_factory.mktemp("basic")
    with serving.run(basic.write(root), root=root, log=root / "log") as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """A keep-alive client."""
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("case", basic.CASES, ids=lambda case: case.name)
def test_a_request_gets_its_answer(client: httpx.Client, case: basic.Case):
    """Every case of the table; the same table is run on Ray."""
    case.check(client)


def test_a_bad_row_of_an_array_fails_alone(client: httpx.Client):
    """Status 200; the bad rows' elements are error objects with the path of their fault."""
    rows = [
        {"values": [1]},
        {"values": "x"},
        {"values": [13]},
        {"values": [14]},
        {"values": [2, 4]},
    ]
    response = client.post(basic.MEAN, json=rows)
    assert response.status_code == 200
    first, text, refused, broken, last = response.json()
    assert (first["mean"], last["mean"]) == (1.0, 3.0)
    assert [row["code"] for row in (text, refused, broken)] == [
        "wrong_datatype",
        "bad_request",
        "function_failed",
    ]
    assert text["where"] == "[1].values"
    assert "secret" not in response.text


def test_an_id_is_echoed_and_a_time_is_in_the_answer(client: httpx.Client):
    """x-request-id comes back; Server-Timing names what the time was made of."""
    response = client.post(basic.MEAN, json={"values": [1]}, headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    names = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert names == ["queue", "batch", "preprocess", "model", "postprocess", "total"]


def test_a_v2_client(url: str):
    """tritonclient: health, metadata, inference by JSON and by binary, several at once."""
    clients.triton(url)


def test_many_callers_each_get_their_own(client: httpx.Client):
    """Sixteen callers with different numbers at the same time; no caller gets another's."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(
            pool.map(
                lambda n: client.post(basic.MEAN, json={"values": [n] * (n % 7 + 1)}).json()[
                    "mean"
                ],
                range(20, 220),
            )
        )
    assert answers == list(range(20, 220))


def test_a_client_that_leaves_hurts_no_other(url: str, client: httpx.Client):
    """Connections closed within the body or before the answer; the next call is answered."""
    host, port = url.removeprefix("http://").split(":")
    for body in (b"", b'{"values": [1]}'):
        with socket.create_connection((host, int(port))) as leaving:
            leaving.sendall(
                b"POST /v2/models/mean HTTP/1.1\r\nhost: x\r\n"
                b"content-type: application/json\r\ncontent-length: 15\r\n\r\n" + body
            )
    assert client.post(basic.MEAN, json={"values": [5]}).json()["mean"] == 5.0


def test_a_prefix_ends_at_a_segment(client: httpx.Client):
    """/v2/models/mean2 is not under /v2/models/mean."""
    assert client.post("/v2/models/mean2", json={"values": [5]}).json()["code"] == "not_found"


def test_the_index_lists_every_function(client: httpx.Client):
    """The v2 repository index, by POST as Triton's clients ask and by GET."""
    for response in (client.post("/v2/repository/index"), client.get("/v2/repository/index")):
        names = ("mean", "greet", "double", "fixed", "sum")
        assert {entry["name"]: entry["state"] for entry in response.json()} == dict.fromkeys(
            names, "READY"
        )


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/html", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/*, application/json;q=0.9", True),
        ("*/*", False),
        ("", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0, */*", False),
        ("text/plain", False),
    ],
)
def test_a_browser_gets_the_page(client: httpx.Client, accept: str, is_page: bool):
    """At the root, where a program gets the index; a cache keeps both apart."""
    for method in ("GET", "HEAD"):
        answer = client.request(method, "/", headers={"accept": accept}, follow_redirects=False)
        assert answer.headers["vary"] == "accept"
        if is_page:
            assert (answer.status_code, answer.headers["location"]) == (303, "console")
        else:
            assert answer.headers["content-type"] == "application/json"
    followed = client.get("/", headers={"accept": accept}, follow_redirects=True)
    assert followed.url.path == ("/console" if is_page else "/")
    assert followed.status_code == 200


def test_a_function_that_cannot_load_says_why(tmp_path):
    """The others are served; the failed one is 503 with its reason, the catalogue is not ready."""
    file = basic.write(tmp_path)
    file.write_text(
        file.read_text().replace("example: {values: [1, 2, 3]}", "example: {values: [14]}")
    )
    with (
        serving.run(file, root=tmp_path, log=tmp_path / "log") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        failed = client.post(basic.MEAN, json={"values": [1]})
        assert (failed.status_code, failed.json()["code"]) == (503, "load_failed")
        assert "the declared example fails" in failed.json()["error"]
        assert int(failed.headers["retry-after"]) >= 1
        assert client.post("/hello/there", json={"name": "x"}).status_code == 200
        assert client.get("/v2/health/ready").status_code == 503


def test_functions_sleep_and_wake(tmp_path):
    """Without min_replicas it is asleep after its delay and wakes for its next call; with them it
    stays. The log has the wake.
    """
    file = basic.write(tmp_path)
    sleeps = "autoscaling: {min_replicas: 0, downscale_to_zero_delay_s: 0.1}"
    file.write_text(
        file.read_text().replace(
            "onnx: double.onnx, autoscaling: {min_replicas: 1}", f"onnx: double.onnx, {sleeps}"
        )
    )
    with (
        serving.run(file, root=tmp_path, log=tmp_path / "log") as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):

        def states() -> dict[str, str]:
            return {entry["name"]: entry["state"] for entry in client.get("/").json()["functions"]}

        until = time.monotonic() + 20
        while (seen := states())["double"] != "asleep" and time.monotonic() < until:
            time.sleep(0.02)
        assert seen == {
            "mean": "ready",
            "greet": "ready",
            "double": "asleep",
            "fixed": "ready",
            "sum": "ready",
        }
        answer = client.post("/v2/models/double", json={"x": [1, 2, 3]})
        assert answer.json() == {"y": [2.0, 4.0, 6.0]}
        assert "cold;dur=" in answer.headers["server-timing"]
        assert 'wakeful_wakes_total{outcome="ok"} 6.0' in client.get("/metrics").text
    assert "double woke in" in (tmp_path / "log").read_text()


def test_what_is_accepted_is_answered_before_it_ends(tmp_path):
    """SIGTERM while calls are computed: each of them is answered, and the exit status is 0."""
    file = basic.write(tmp_path)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        with serving.run(file, root=tmp_path, log=tmp_path / "log") as url:
            rows = [{"values": [float(n)] * 50} for n in range(10)]
            calls = [
                pool.submit(httpx.post, url + basic.MEAN, json=rows, timeout=20) for _ in range(8)
            ]
            until = time.monotonic() + 10
            while not any(call.running() for call in calls) and time.monotonic() < until:
                time.sleep(0.001)
            done = [call.result() for call in calls[:1]]
        assert done[0].status_code == 200
