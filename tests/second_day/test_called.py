"""Every wrong call is answered with its place and what to send, and every function answers on."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.second_day import stages
from tests.second_day.called import CASES, Case
from tests.second_day.projects import classifier
from wakeful.testing import serve

# of the coroutine that one of the stages forgets to await
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FUNCTIONS = (
    *("prints", "raises", "forgotten", "exits", "wrong_type", "unserialisable", "too_many"),
    *("nested", "deep", "huge", "defaulted", "mutable", "listed", "modelled", "anything"),
    *("placed", "keyed", "yields_then_raises", "yields_wrong", "yields", "chosen", "runs_a_loop"),
    *("same", "told", "size", "picture", "double", "asks"),
    "asks_at_the_terminal",
)

FILE = """\
applications:
  - name: iris
    args:
      graph:
        - {{stage: measurements, python: "tests.second_day.stages:measure"}}
        - {{stage: model, onnx: iris.onnx}}
        - {{stage: answer, python: "tests.second_day.stages:name"}}
  - name: length
    args:
      graph: [{{stage: stage, python: "tests.second_day.stages:length"}}]
      limits: {{max_body_bytes: 1000}}
  - name: waits
    args:
      graph: [{{stage: stage, python: "tests.second_day.stages:waits"}}]
      limits: {{request_timeout_s: 0.1}}
  - name: moved
    route_prefix: /predict/here
    args:
      graph: [{{stage: stage, python: "tests.second_day.stages:same"}}]
  - name: swallows
    args:
      graph: [{{stage: stage, python: "tests.second_day.stages:swallows"}}]
      limits: {{request_timeout_s: 0.5}}
  - name: taken
    args:
      graph: [{{stage: stage, python: "tests.second_day.stages:size"}}]
      accepts: [image/png]
  - name: elements
    args:
      graph:
        - {{stage: numbers, python: "tests.second_day.stages:numbers"}}
        - {{stage: each, python: "tests.second_day.stages:each_number", each: numbers, stream: true}}
{others}
"""

OTHER = """\
  - name: {name}
    args: {{graph: [{{stage: stage, python: "tests.second_day.stages:{name}"}}]}}
"""


@pytest.fixture(scope="module")
def http(tmp_path_factory) -> Iterator[httpx.Client]:
    """All functions, served in this process."""
    folder = tmp_path_factory.mktemp("calls")
    others = "".join(OTHER.format(name=name) for name in FUNCTIONS)
    (folder / "serve_config.yaml").write_text(FILE.format(others=others))
    classifier(folder / "iris.onnx")
    assert all(hasattr(stages, name) for name in FUNCTIONS)
    with serve(folder / "serve_config.yaml") as app:
        yield app.http


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_call_is_answered_with_what_to_send(http: httpx.Client, case: Case) -> None:
    """Status, code and place for programs, words for people."""
    method, _, path = case.path.rpartition(" ")
    headers = {"content-type": "application/json", "accept": "application/json", **case.headers}
    if case.files:
        del headers["content-type"]
        response = http.post(path, files=case.files, headers=headers)
    else:
        response = http.request(method or "POST", path, content=case.body, headers=headers)
    assert response.status_code == case.status, response.text
    text = response.text
    if response.is_error:
        answer = response.json()
        text = answer["error"] if isinstance(answer["error"], str) else answer["error"]["message"]
        if isinstance(answer["error"], str):
            assert (answer["code"], answer["where"]) == (case.code, case.where), text
    for word in case.words:
        assert word in text, text
    assert "hunter2" not in text


def test_functions_answer_after_all_of_it(http: httpx.Client) -> None:
    """None of the mistakes has taken another function with it."""
    assert http.post("/v2/models/same", json={"x": 7}).json() == {"stage": 7}
