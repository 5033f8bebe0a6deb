"""Texts of a known length in tokens, the same for every run of a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

COMMON = """
water paper bread milk coffee sugar fruit sugar cheese meat fish rice salt wine beer glass plate knife table chair lamp door window
wall floor roof house street city town village market store shop price cost value money bank card cash order truck train ship plane
road bridge river lake sea ocean island mountain hill valley field forest tree flower grass leaf stone sand gold silver iron steel
wood oil gas coal fire light heat cold snow rain wind storm cloud summer winter spring autumn morning evening night week month year
hour minute day time clock book page word letter story song music picture film game ball team player coach school class teacher
student child mother father sister brother friend doctor nurse farmer driver worker leader king queen soldier judge lawyer
small large long short high low old new young early late fast slow strong weak hard soft warm cool dry wet clean dark bright red
blue green white black brown open close buy sell send keep give take bring carry move stop start build break read write speak hear
"""
WORDS = tuple(dict.fromkeys(COMMON.split()))
"""Common English words, each one token in BERT's vocabulary; those that are not, in another vocabulary, are left out."""

SPECIAL_TOKENS = 2
"""What the tokenizer adds to every text: a start and an end."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what the tokenizer makes of it.

    Attributes:
        text: what a caller sends.
        tokens: token ids, special tokens included; as many as were asked for.
    """

    text: str
    tokens: tuple[int, ...]


class Writer:
    """Writes texts of so many tokens, special tokens included."""

    def __init__(self, tokenizer: Path, seed: int = 0) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._random = random.Random(seed)
        self._words = [word for word in WORDS if len(self._tokenizer.encode(word).ids) == SPECIAL_TOKENS + 1]
        if len(self._words) < len(WORDS) // 2:
            raise ValueError(f"{tokenizer}: only {len(self._words)} of {len(WORDS)} common words are one token; the texts would repeat.")

    def write(self, tokens: int) -> Text:
        """A text of exactly ``tokens`` tokens.

        Raises:
            ValueError: the words do not add up in this vocabulary.
        """
        text = " ".join(self._random.choices(self._words, k=tokens - SPECIAL_TOKENS))
        ids = self._tokenizer.encode(text).ids
        if len(ids) != tokens:
            raise ValueError(f"a text of {tokens} tokens came out as {len(ids)}; this vocabulary joins words.")
        return Text(text, tuple(ids))

    def write_all(self, lengths: Sequence[int]) -> list[Text]:
        """A text for each length, in order."""
        return [self.write(length) for length in lengths]


def log_uniform_lengths(count: int, low: int, high: int, seed: int = 0) -> list[int]:
    """Lengths whose logarithm is uniform between two bounds: as many texts from 4 to 8 tokens as from 100 to 200.

    Drawn at the middles of ``count`` equal slices and then shuffled, so that a small set has the same mix as a large one.
    """
    ratio = math.log(high / low)
    lengths = [round(low * math.exp(ratio * (i + 0.5) / count)) for i in range(count)]
    random.Random(seed).shuffle(lengths)
    return lengths
