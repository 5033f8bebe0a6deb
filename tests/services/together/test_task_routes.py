"""The routes by task on Ray: functions that sleep in the host, and one with its own deployment."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest

from tests import task_stages
from tests.deployments.projects import Standing, state, wait_until
from tests.services.together import declared

TEXTS = ["a cat", "the dog barks", "42!"]


@pytest.mark.ray
@pytest.mark.slow
def test_clients_of_others_call_functions_of_a_cluster(up: Standing, client: httpx.Client) -> None:
    """By OpenAI's client, and in Cohere's form: each is woken where it belongs, and its error is
    told.
    """
    import openai  # half a second, which only this test takes

    with openai.OpenAI(base_url=f"{up.url}/v1", api_key="none", max_retries=0) as others:
        expected = [task_stages.vector(text) for text in TEXTS]
        models = [model.id for model in others.models.list()]
        assert [name for name in models if name in declared.TASKS] == [*declared.TASKS]
        assert "resident" not in models
        assert state(client, "vowels")["state"] == "asleep"
        for name, tokens in (("vowels", 6), ("short", 7)):
            for _ in range(2):  # the first of a connection takes another way
                answer = others.embeddings.create(model=name, input=TEXTS)
                assert [one.embedding for one in answer.data] == expected
                assert answer.usage.total_tokens == tokens
        wait_until(lambda: state(client, "vowels")["loads"] == 1)  # its reports come a second later
        cut = client.post(
            "/v1/embeddings",
            json={"model": "short", "input": "a", "dimensions": 1, "encoding_format": "base64"},
        ).json()["data"][0]["embedding"]
        assert np.frombuffer(base64.b64decode(cut), "<f4").tolist() == [1.0]
        ranked = client.post(
            "/v1/rerank",
            json={"query": "b", "documents": ["a", {"text": "a b"}], "return_documents": True},
        ).json()
        assert ranked["results"] == [
            {"index": 1, "relevance_score": 1.0, "document": {"text": "a b"}},
            {"index": 0, "relevance_score": 0.0, "document": {"text": "a"}},
        ]
        for body, status, code, param in (
            ({"model": "short", "input": ["a", "refused"]}, 400, "bad_request", "input[1]"),
            ({"model": "vowels", "input": "a", "dimensions": 2}, 400, "bad_request", "dimensions"),
            ({"model": "resident", "input": "a"}, 400, "bad_request", "model"),
            ({"model": "none", "input": "a"}, 404, "model_not_found", "model"),
        ):
            answer = client.post("/v1/embeddings", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
        assert client.get("/v1").status_code == 404
