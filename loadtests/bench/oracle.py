"""Whether a server answers what the bare model, or plain arithmetic, answers: asked before a rate is believed."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.answers import WrongAnswer, check_embedding, check_same
from loadtests.bench.bare import BareLoop
from loadtests.bench.serving import Server
from loadtests.bench.texts import Text

EMBED, TRIVIAL = "/v2/models/embed", "/v2/models/trivial"


def wrong_embeddings(bare: BareLoop, server: Server, texts: Sequence[Text]) -> str:
    """Why the server's answers are not those of the bare model; empty when they are."""
    for text, expected in zip(texts, bare.embed(texts), strict=True):
        answer = server.post(EMBED, {"text": text.text})
        if answer.status_code != 200:
            return f"status {answer.status_code}: {answer.text[:100]}"
        try:
            check_same(check_embedding(answer.json().get("embedding")), check_embedding(expected))
        except WrongAnswer as wrong:
            return f"wrong answer: {wrong}"
    return ""


def wrong_trivial(server: Server, path: str) -> str:
    """Why the server's answer is not twice the number; empty when it is."""
    answer = server.post(path, {"x": 1.5})
    return "" if answer.status_code == 200 and answer.json() == {"answer": 3.0} else f"status {answer.status_code}: {answer.text[:100]}"
