"""Profanity: the model on its own, and the words before and after it."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort
import pytest

from apps.moderate import judge, words

SCORES = {
    "You are a wonderful person": 0.025,
    "go to hell, you scum": 0.999,
    "I will ship the parcel on Monday": 0.081,
    "what a stupid idiot": 1.000,
}
"""What scikit-learn's own pipeline says of them, to three digits."""


@pytest.fixture(scope="module")
def session(models):
    return ort.InferenceSession(
        str(models / "moderate" / "model.onnx"), providers=["CPUExecutionProvider"]
    )


def score(session, *texts):
    return session.run(None, {"text": np.array(texts, object)})[0]


def test_words_are_written_one_way():
    """Full-width letters, ligatures, accents on their own; white space stays."""
    assert words("ＳＴＵＰＩＤ  e\u0301ﬁ\n") == "stupid  éfi\n"


def test_accents_without_end_take_no_time():
    """To put 100,000 of them in order took ten seconds, in which nothing else of the process ran."""
    began = time.process_time()
    assert len(words("a" + "\u0301" * 49_999 + "\u0316" * 50_000)) > 90_000
    assert time.process_time() - began < 1


@pytest.mark.models
def test_texts_have_known_scores(session):
    """Of raw texts, alone and together."""
    together = score(session, *SCORES)
    assert together == pytest.approx(list(SCORES.values()), abs=0.001)
    assert together.tolist() == [score(session, text)[0] for text in SCORES]


@pytest.mark.models
def test_a_text_without_words_is_one(session):
    """Of no letters, or of letters the model does not know: what it says of nothing."""
    nothing, empty, foreign = score(session, "...", "", "日本語")
    assert nothing == empty == foreign < 0.1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Quick FOX", "the quick fox"),
        ("ｉｄｉｏｔ", "idiot"),
        ("ﬁlth", "filth"),
        ("Ärger", "ärger"),
        ("", ""),
    ],
)
def test_one_way_of_writing(text: str, expected: str):
    """Small letters, and none that look alike."""
    assert words(text) == expected


@pytest.mark.parametrize(
    ("score", "threshold", "is_profane"),
    [(0.5, 0.5, True), (0.49999, 0.5, False), (0.9, 0.95, False), (0.0, 0.0, True)],
)
def test_the_threshold_is_reached_or_not(score: float, threshold: float, is_profane: bool):
    """By the score itself, not by what is shown of it."""
    judged = judge(np.float32(score), threshold)
    assert judged["is_profane"] is is_profane
    assert judged["score"] == pytest.approx(score, abs=5e-5)
    assert judged["scores"] == {"profane": judged["score"]}
