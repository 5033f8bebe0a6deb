"""Sample requests."""

from __future__ import annotations

import base64
import json

import pytest

from deployments.loadtest.calls.answers import WrongAnswer
from loadtests import declare
from loadtests.samples import RAW, TEXTS, Check, each, is_stream, samples
from runtime.declaration.config_file import read


def test_every_function_of_the_shipped_file_has_samples(root) -> None:
    """Its declared example is the first."""
    functions = read(root / "serve_config.yaml").functions
    assert declare.shipped().keys() == {function.name for function in functions}
    for name in declare.shipped():
        first = samples(name)[0]
        assert first.path == f"/v2/models/{name}"
        assert json.loads(first.body) == declare.example(name)


def test_texts_are_short_and_long() -> None:
    """A load of one length would never make a padded batch."""
    words = [len(text.split()) for text in TEXTS]
    assert min(words) == 1
    assert max(words) > 30


@pytest.mark.parametrize("name", RAW)
def test_a_body_as_it_is_has_the_answer_of_its_row(name: str) -> None:
    """The same content, and the same first answer."""
    row, raw = samples(name)[:2]
    assert [raw.body] == [base64.b64decode(value) for value in json.loads(row.body).values()]
    row.check({"label": "a"})
    with pytest.raises(WrongAnswer):
        raw.check({"label": "b"})


def test_rows_of_a_call_are_checked_one_by_one() -> None:
    """Each by the check of its row, and a bad one among them must be refused."""
    one, *_, several = samples("embed")
    rows = json.loads(several.body)
    one.check({"embedding": [0.0]})
    good = [{"embedding": [float(index)]} for index in range(len(rows))]
    refused = {"error": "'text' is missing.", "code": "missing_input"}
    several.check([good[0], refused, *good[2:]])
    for wrong in (good, [good[1], refused, *good[2:]]):
        with pytest.raises(WrongAnswer):
            several.check(wrong)


def test_there_are_as_many_answers_as_rows() -> None:
    """One that is missing is no right answer."""

    def equals(expected: int) -> Check:
        def check(answer: int) -> None:
            if answer != expected:
                raise WrongAnswer(f"{answer}")

        return check

    check = each([equals(1), equals(2)])
    check([1, 2])
    for wrong, error in (([2, 1], WrongAnswer), ([1], ValueError)):
        with pytest.raises(error):
            check(wrong)


def test_which_functions_have_sequences() -> None:
    """Their users send each call as a sequence of its own."""
    assert [name for name in declare.shipped() if is_stream(name)] == ["listen"]
