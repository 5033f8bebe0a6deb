"""WAV files, their starts, and bare samples."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from apps.sound import RATE, samples_of
from tests.problems import expect_values
from wakeful import RequestError

SAMPLES = np.array([0, 16384, -32768, 32767], "<i2").tobytes()


def wav(rate: int = RATE, channels: int = 1, width: int = 2, frames: bytes = SAMPLES) -> bytes:
    """As the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(frames)
    return file.getvalue()


def test_samples_are_numbers_from_minus_one_to_one():
    """Little-endian, 16 bits."""
    assert samples_of(SAMPLES).tolist() == [0.0, 0.5, -1.0, 32767 / 32768]
    assert samples_of(b"").size == 0


def test_a_file_is_its_samples():
    """Whatever is before and after them in it."""
    file = wav()
    assert samples_of(file).tolist() == samples_of(SAMPLES).tolist()
    noted = file[:12] + b"LIST\x03\0\0\0abc\0" + file[12:] + b"id3 \x02\0\0\0xy"
    assert samples_of(noted).tolist() == samples_of(SAMPLES).tolist()


def test_the_start_of_a_stream_is_what_is_there():
    """A header that promises more than has come, as recorders write it into a pipe."""
    file = wav()
    endless = file[:40] + b"\xff\xff\xff\xff" + file[44:]
    assert samples_of(endless).size == 4
    assert samples_of(wav(frames=SAMPLES * 100)[:48]).size == 2


@pytest.mark.parametrize(
    ("sound", "values"),
    [
        (wav(rate=44100), ["44100 Hz, 1 channels, 16 bits", "16000 Hz"]),
        (wav(channels=2), ["16000 Hz, 2 channels, 16 bits"]),
        (wav(width=1), ["16000 Hz, 1 channels, 8 bits"]),
        (wav()[:30], ["WAV", "no samples"]),
        (b"RIFF", ["WAV", "no samples"]),
        (b"RIFF" + b"\0" * 50, ["WAV", "no samples"]),
        (SAMPLES[:-1], ["odd number"]),
    ],
    ids=["rate", "channels", "width", "cut", "word", "zeros", "odd"],
)
def test_another_kind_is_refused(sound: bytes, values: list[str]):
    """Never resampled or mixed in silence."""
    with pytest.raises(RequestError) as refused:
        samples_of(sound)
    assert refused.value.where == "sound"
    expect_values(refused.value, *values)
