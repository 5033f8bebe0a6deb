"""Texts of a known length in tokens, and ways to cut them into batches when all are known."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

WORDS = 200
"""How many of the vocabulary's words the texts are made of."""

SPECIAL_TOKENS = 2
"""What the tokenizer adds to every text: a start and an end."""

Text = tuple[str, tuple[int, ...]]
"""A text, and its token ids, special ones included."""

Plan = list[list[int]]
"""Batches of indices into the texts; every index once."""


def write_texts(tokenizer: Path, lengths: Sequence[int], seed: int = 0) -> list[Text]:
    """A text of each length in tokens, special ones included; the same for every run of a seed.

    Raises:
        ValueError: the words do not add up in this vocabulary.
    """
    encoder, dice = Tokenizer.from_file(str(tokenizer)), random.Random(seed)
    encoder.no_padding()
    encoder.no_truncation()
    known = sorted(encoder.get_vocab().items(), key=lambda entry: entry[1])  # the common ones first
    words = [word for word, _ in known if len(word) > 3 and re.fullmatch("[a-z]+", word)][:WORDS]
    texts = [" ".join(dice.choices(words, k=length - SPECIAL_TOKENS)) for length in lengths]
    found = [(text, tuple(encoder.encode(text).ids)) for text in texts]
    if [len(ids) for _, ids in found] != list(lengths):
        raise ValueError(f"{tokenizer}: this vocabulary joins words.")
    return found


def log_uniform_lengths(count: int, low: int, high: int, seed: int = 0) -> list[int]:
    """Lengths whose logarithm is uniform: as many texts from 4 to 8 tokens as from 100 to 200.

    They are the middles of ``count`` equal slices, shuffled, so that a small set has the same mix
    as a large one.
    """
    middles = np.geomspace(low, high, 2 * count + 1)[1::2]
    lengths = [round(middle) for middle in middles.tolist()]
    random.Random(seed).shuffle(lengths)
    return lengths


def by_length(lengths: Sequence[int], size: int, cost: float = math.inf) -> Plan:
    """Neighbours in length share a batch, of at most ``size`` texts and ``cost`` padded tokens."""
    plan: Plan = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        last = plan[-1] if plan else []
        if not last or len(last) == size or (len(last) + 1) * lengths[index] > cost:
            plan.append([index])
        else:
            last.append(index)
    return plan


def offline_plans(lengths: Sequence[int]) -> Iterator[tuple[str, Plan]]:
    """Every policy tried, by name: what no server, which sees texts one by one, can beat."""
    yield "one by one", by_length(lengths, 1)
    for size in (2, 4, 8, 16, 32):
        yield f"by length, batches of {size}", by_length(lengths, size)
    for cost in (64, 128, 256, 512, 1024):
        yield f"by length, at most {cost} padded tokens", by_length(lengths, 32, cost)
