"""Texts of a known length."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from loadtests.bench.texts import WORDS, Writer, log_uniform_lengths


def tokenizer(path: Path, words: tuple[str, ...]) -> Path:
    """A vocabulary of whole words with a start and an end, which pads and truncates unless told not to."""
    vocabulary = {word: number for number, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", *words))}
    made = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    made.enable_padding(length=128)
    made.enable_truncation(128)
    made.save(str(path))
    return path


def test_a_text_has_as_many_tokens_as_asked_for(tmp_path: Path) -> None:
    """Special tokens counted, padding and truncation of the file switched off."""
    texts = Writer(tokenizer(tmp_path / "t.json", WORDS)).write_all([4, 14, 200])
    assert [len(text.tokens) for text in texts] == [4, 14, 200]
    assert len(texts[1].text.split()) == 12


def test_a_seed_writes_the_same_texts_again(tmp_path: Path) -> None:
    """Two runs measure the same work."""
    file = tokenizer(tmp_path / "t.json", WORDS)
    assert Writer(file, 7).write_all([9, 9]) == Writer(file, 7).write_all([9, 9])
    assert Writer(file, 7).write(9) != Writer(file, 8).write(9)


def test_a_vocabulary_without_whole_words_is_refused(tmp_path: Path) -> None:
    """Words in pieces would give texts of another length than asked for."""
    made = Tokenizer.from_file(str(tokenizer(tmp_path / "t.json", WORDS)))
    made.post_processor = TemplateProcessing(single="[CLS] $A $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    made.save(str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match="only 0 of"):
        Writer(tmp_path / "t.json")


def test_lengths_are_spread_evenly_on_a_logarithmic_scale() -> None:
    """As many between 4 and 8 tokens as between 100 and 200; the order is shuffled, the same for a seed."""
    lengths = log_uniform_lengths(512, 4, 200)
    low, high = (sum(start <= length < 2 * start for length in lengths) for start in (4, 100))
    assert min(lengths) == 4
    assert max(lengths) <= 200
    assert abs(low - high) < 20
    assert lengths != sorted(lengths)
    assert lengths == log_uniform_lengths(512, 4, 200)
