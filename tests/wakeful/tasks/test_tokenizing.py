"""Texts to what a model takes, with a small tokenizer of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from wakeful.tasks import rerank, text, token_classification
from wakeful.tasks.text import CHARACTERS

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "when": 3, "is": 4, "payday": 5, "Payday": 6}
MOST = 4
"""Tokens after which a text is cut."""

FAR = " " * (CHARACTERS * MOST) + "payday"
"""A word behind all that is read."""


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words, as BERT has them; the file says that rows are padded and never cut."""
    made = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    made.enable_padding(length=16)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def lists(columns: dict, name: str = "input_ids") -> list[list[int]]:
    """A column."""
    return [row.tolist() for row in columns[name]]


@pytest.mark.parametrize("stage", [text.Tokenize, text.TokenizeTyped])
def test_each_row_has_the_length_of_its_own_text(tokenizer, stage):
    """Whatever the file says: the batcher pads, where rows share a run. All of it is text."""
    columns = stage(tokenizer, 16)(["payday", "when is payday", ""])
    assert lists(columns) == [[1, 5, 2], [1, 3, 4, 5, 2], [1, 2]]
    assert lists(columns, "attention_mask") == [[1, 1, 1], [1] * 5, [1, 1]]
    assert columns["tokens"] == [3, 5, 2]
    assert ("token_type_ids" in columns) is (stage is text.TokenizeTyped)


def test_a_long_text_is_cut_to_what_the_model_reads(tokenizer):
    """Special tokens included; and what is far behind is not even tokenized, which takes a second
    a million characters.
    """
    stage = text.Tokenize(tokenizer, MOST)
    assert lists(stage(["when is payday when", FAR])) == [[1, 3, 4, 2], [1, 2]]
    assert lists(stage([FAR[1:]])) == [[1, 0, 2]]  # its first letter is the last that is read


def test_letters_are_made_small_where_the_model_has_no_others(tokenizer):
    """As its configuration says, and not else."""
    assert lists(text.Tokenize(tokenizer, MOST)(["Payday"])) == [[1, 6, 2]]
    assert lists(text.Tokenize(tokenizer, MOST, lowercase=True)(["Payday"])) == [[1, 5, 2]]


def test_a_pair_is_one_row_of_two_segments(tokenizer):
    """Of one that is too long the longer text is cut, and what is far behind is not read, of
    neither.
    """
    stage = rerank.TokenizePairTyped(tokenizer, 6)
    columns = stage(["when", "is", " " * CHARACTERS * 6 + "is"], ["payday", FAR * 6, "payday"])
    assert lists(columns) == [[1, 3, 2, 5, 2], [1, 4, 2, 5, 2], [1, 2, 5, 2]]
    assert lists(columns, "token_type_ids")[0] == [0, 0, 0, 1, 1]
    assert lists(stage(["when is payday when is"], ["is"])) == [[1, 3, 4, 2, 4, 2]]
    assert "token_type_ids" not in rerank.TokenizePair(tokenizer, 6)(["when"], ["is"])
    far = " " * CHARACTERS * 6 + "is"
    assert lists(stage([far], [far])) == [[1, 2, 2]]


@pytest.mark.parametrize(
    "stage", [token_classification.Tokenize, token_classification.TokenizeTyped]
)
def test_tokens_know_where_in_the_text_they_stand(tokenizer, stage):
    """Those that the tokenizer adds stand nowhere; what is far behind is not read."""
    columns = stage(tokenizer, MOST)(["is  payday", FAR])
    assert lists(columns) == [[1, 4, 5, 2], [1, 2]]
    assert lists(columns, "spans") == [[[0, 0], [0, 2], [4, 10], [0, 0]], [[0, 0], [0, 0]]]
    assert columns["tokens"] == [4, 2]
