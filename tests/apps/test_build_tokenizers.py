"""Tokenizers of any kind that transformers knows become one file."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from apps.build.tokenizers import TokenizerFacts, resolve_tokenizer
from runtime.errors import StoreError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "!"]


@pytest.fixture
def bert(tmp_path):
    """A BERT folder without tokenizer.json: only a vocabulary, as old repositories have it."""
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.slow
def test_a_vocabulary_becomes_a_tokenizer_file(bert, tmp_path):
    """It needs nothing but the tokenizers library to read it, and neither pads nor cuts."""
    facts = resolve_tokenizer(bert, tmp_path)
    assert facts == TokenizerFacts(max_length=64, pad_id=0, padding_side="right")
    assert json.loads((tmp_path / "tokenizer.meta.json").read_text())["max_length"] == 64
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [VOCABULARY[token] for token in tokenizer.encode("Hello WORLDS!").ids] == [
        "[CLS]",
        "hello",
        "world",
        "##s",
        "!",
        "[SEP]",
    ]
    assert len(tokenizer.encode("hello " * 100).ids) == 102


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    """transformers would make an empty one of a BERT folder, and requests an unknown from the network
    one: neither is of use here.
    """
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(StoreError, match="has no vocabulary"):
        resolve_tokenizer(tmp_path, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    with pytest.raises(StoreError, match="cannot load a tokenizer"):
        resolve_tokenizer(tmp_path, tmp_path)
