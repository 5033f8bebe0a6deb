"""What reads bytes of a stranger reads them, or refuses them in words."""

from __future__ import annotations

from random import Random

import pytest

from loadtests.fuzz.damage import damaged
from loadtests.fuzz.readers import READERS, reading_folder

FOUND: dict[str, list[bytes]] = {
    "lock": [b"a = " + b"[" * 20_000],
    "model": [b""],
    "triton": [rb'platform: "onnxruntime\_onnx"'],
}
"""Bytes that once raised something else."""


def attempt_all(name: str, count: int) -> None:
    reader = READERS[name]
    with reading_folder() as folder:
        for data in [*reader.seeds, *FOUND.get(name, ())]:
            reader.attempt(data, folder)
        for number in range(count):
            random = Random(f"{name}:{number}")
            data = damaged(random, random.choice(reader.seeds))
            try:
                reader.attempt(data, folder)
            except Exception as error:
                raise AssertionError(f"{name}, number {number}: {data[:2000]!r}") from error


@pytest.mark.parametrize("name", READERS)
def test_right_bytes_are_read(name):
    """Else what is made of them tells nothing."""
    reader = READERS[name]
    with reading_folder() as folder:
        for seed in reader.seeds:
            given = seed
            if reader.file:
                (folder / reader.file).write_bytes(seed)
                given = folder / reader.file
            reader.read(given)


@pytest.mark.parametrize("name", READERS)
def test_damaged_bytes_are_read_or_refused(name):
    """Of every reader, some."""
    attempt_all(name, 8 if name == "declaration" else 40)


@pytest.mark.slow
@pytest.mark.full  # the first of them in the test before
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_bytes_are_read_or_refused(name):
    """Of every reader, thousands."""
    attempt_all(name, 3_000 if name == "declaration" else 30_000)
