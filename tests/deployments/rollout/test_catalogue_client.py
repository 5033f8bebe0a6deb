"""What becomes of another version that others load."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deployments.ingress.haproxy.lacks import CLOSED, OPEN, PROMISES, lost_without
from deployments.ray_support.driver_client import RayError
from deployments.rollout.catalogue_client import (
    fetch_index,
    fetch_lacking,
    is_decided,
    refused_functions,
    serving_functions,
    wait_index,
    wait_routed,
)
from tests.problems import expect_values


def entry(state: str = "ready", version: str = "old", update: str = "") -> dict[str, str]:
    """A function in the catalogue's index."""
    return {"name": "f", "state": state, "version": version, "update": update}


def catalogue(*looks: list[dict[str, str]]) -> AbstractContextManager[str]:
    """A catalogue that shows one of these after another, the last for ever; its URL."""
    return served(*({"functions": look} for look in looks))


@contextmanager
def served(*answers: object) -> Iterator[str]:
    """A server of these, one after another, the last for ever; its URL."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = left.pop(0) if len(left) > 1 else left[0]
            body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *of: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (entry(), False),  # the new one is not known yet
        (entry(update="loading"), False),
        (entry(version="new", update="loading"), False),  # another replica of it is still to come
        (entry(version="new"), True),
        (entry(update="no weights"), True),
        (entry(state="asleep"), True),
        (entry(state="failed"), True),
    ],
)
def test_whether_it_is_known_what_became_of_a_version(shown, known):
    """Taken, refused, or of a sleeping function."""
    assert is_decided(shown, "new") is known


def test_a_sleeping_function_is_not_awaited():
    """It wakes as the new version."""
    assert serving_functions([entry(), {**entry("asleep"), "name": "g"}]) == {"f"}


def test_the_catalogue_is_polled_until_all_is_known():
    """The reasons of those that did not take their version come back."""
    good = {**entry(version="new"), "name": "g"}
    with catalogue(
        [entry(), good], [entry(update="loading"), good], [entry(update="no weights"), good]
    ) as url:
        assert refused_functions(url, {"f": "new", "g": "new"}) == {"f": "no weights"}


def test_a_version_that_loads_for_ever_is_not_waited_for():
    """It counts as refused; for no versions, there is no request."""
    with catalogue([entry(update="loading")]) as url:
        assert refused_functions(url, {"f": "new"}, timeout_s=0.0) == {
            "f": "it has not loaded within 0 s."
        }
    assert refused_functions("http://127.0.0.1:1", {}) == {}


def test_no_answer_is_not_the_answer_that_there_is_none():
    """A catalogue that restarts is asked again, for as long as it may take."""
    with served("", "", {"functions": []}) as url:
        assert fetch_index(url) is None
        assert wait_index(url, timeout_s=0.0) is None
        assert wait_index(url, timeout_s=30.0) == []
    assert wait_index(url, timeout_s=0.0) is None


def test_a_prefix_that_is_not_served_is_named_with_those_that_are():
    """In the time that HAProxy has for it."""
    with served({"/": "catalogue", "/v2/models": "host"}) as url:
        wait_routed(url, {"/"}, timeout_s=0)
        with pytest.raises(RayError) as refused:
            wait_routed(url, {"/", "/v2/models/f"}, timeout_s=0)
    expect_values(refused.value, "/v2/models/f", url, "'/', '/v2/models'")


METRICS = """# TYPE wakeful_haproxy_promise gauge
wakeful_haproxy_promise{process="catalogue",promise="cors"} 0
wakeful_haproxy_promise{process="haproxy-10.0.0.5",promise="replay"} 1
wakeful_haproxy_promise{process="haproxy-10.0.0.5",promise="cors"} 0
wakeful_haproxy_promise{process="haproxy-10.0.0.5",promise="later"} 0
wakeful_haproxy_promise{process="haproxy-10.0.0.6",promise="age"} 0
"""


def test_what_haproxy_lacks_elsewhere_is_read_from_what_runs():
    """By machine; of the catalogue's own the state folder says more."""
    with served(METRICS) as url:
        assert fetch_lacking(url) == {"10.0.0.5": ["cors", "later"], "10.0.0.6": ["age"]}
    assert fetch_lacking(url) == {}
    assert lost_without("cors") == PROMISES["cors"]
    assert lost_without(CLOSED) == OPEN
    assert lost_without("later")
