"""Speech activity: pieces of a stream, the events they make, and the model against known speech."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from apps.listen import CELLS, CONTEXT, HOP, NOTHING, Heard, follow, pieces, tell
from apps.sound import RATE

MEMORY = np.zeros((2, CELLS), np.float32)


def sound(samples: int) -> bytes:
    """So many, each its own number."""
    return np.arange(1, samples + 1, dtype="<i2").tobytes()


def numbers(samples: np.ndarray) -> list[int]:
    """The samples as they were sent."""
    return np.round(samples * 32768).astype(int).tolist()


@pytest.mark.parametrize(
    "lengths", [[2000], [512, 512, 976], [1, 510, 1489], [100] * 20, [0, 2000, 0], [511, 1, 1488]]
)
def test_pieces_are_the_hops_of_the_whole_stream(lengths):
    """However it is cut: each hop after the 64 samples before it, what is left over kept for the
    next piece.
    """
    stream, heard, hops = sound(2000), None, []
    for length in lengths:
        piece = pieces(stream[: 2 * length], heard)
        stream = stream[2 * length :]
        assert len(piece["samples"]) == CONTEXT + piece["hops"] * HOP
        hops += [
            numbers(piece["samples"][k * HOP : k * HOP + CONTEXT + HOP])
            for k in range(piece["hops"])
        ]
        heard = Heard(piece["rest"], MEMORY, len(hops), False, 0)
    whole = [0] * CONTEXT + list(range(1, 2001))
    assert hops == [whole[k * HOP : k * HOP + CONTEXT + HOP] for k in range(3)]
    assert numbers(heard.rest) == whole[3 * HOP :]


def test_what_is_left_over_does_not_keep_the_piece():
    """256 bytes of it kept 16 MB for as long as the sequence lived."""
    assert pieces(sound(20_000), None)["rest"].base is None


def followed(
    probabilities: list[float], before: Heard = NOTHING
) -> tuple[list[tuple[str, float]], Heard]:
    """The events of such a piece as pairs of what and which hop, and what is kept."""
    # a row of a batch is as long as the longest
    speech = np.array([*probabilities, 0.9, 0.9], np.float32)
    result = follow(speech, len(probabilities), MEMORY, NOTHING.rest, before)
    return [(event["event"], event["at_s"] * RATE / HOP) for event in result["events"]], result[
        "heard"
    ]


S, Q = 0.9, 0.1


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([], []),
        ([Q, 0.49], []),
        ([Q, S, S], [("speech_start", 1)]),
        ([0.5], [("speech_start", 0)]),
        ([S, Q, Q, Q], [("speech_start", 0)]),
        ([S, Q, Q, Q, Q], [("speech_start", 0), ("speech_end", 1)]),
        ([S, Q, Q, Q, S, Q, Q, Q, Q], [("speech_start", 0), ("speech_end", 5)]),
        ([S, 0.4, 0.4, 0.4, 0.4, 0.4], [("speech_start", 0)]),
        ([S, Q, Q, Q, Q, Q, S], [("speech_start", 0), ("speech_end", 1), ("speech_start", 6)]),
    ],
)
def test_speech_begins_at_once_and_ends_after_a_silence(probabilities, expected):
    """Of four hops; it ended where the silence began. The last event has how far was read. It
    makes no difference where a piece ends.
    """
    events, _ = followed(probabilities)
    assert events == [*expected, ("heard", len(probabilities))]
    heard, one_by_one = NOTHING, []
    for probability in probabilities:
        events, heard = followed([probability], heard)
        one_by_one += events[:-1]
    assert one_by_one == expected


def test_the_last_event_says_what_share_was_speech():
    """Silences within speaking included."""
    result = follow(np.array([Q, S, Q, S], np.float32), 4, MEMORY, NOTHING.rest, NOTHING)
    assert result["events"][-1] == {"event": "heard", "at_s": 0.128, "speech": 0.75}
    assert list(tell(result["events"])) == result["events"]


@pytest.fixture(scope="module")
def session(models):
    return ort.InferenceSession(
        str(models / "listen" / "model.onnx"), providers=["CPUExecutionProvider"]
    )


def listen(
    session: Any, sound: bytes, heard: Heard | None = None
) -> tuple[list[dict[str, Any]], Heard]:
    """The stages around one run of the model."""
    piece = pieces(sound, heard)
    feeds = {
        "samples": piece["samples"][None],
        "hops": np.array([piece["hops"]]),
        "memory": piece["memory"][None],
    }
    speech, memory = session.run(None, feeds)
    result = follow(speech[0], piece["hops"], memory[0], piece["rest"], piece["before"])
    return list(result["events"]), result["heard"]


@pytest.mark.models
def test_six_sentences_are_six_times_speech(session, models):
    """A reading of "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better.", in
    one piece and in tenths of a second.
    """
    sound = (models / "listen" / "sample.wav").read_bytes()
    events, whole = listen(session, sound)
    starts = [event["at_s"] for event in events if event["event"] == "speech_start"]
    ends = [event["at_s"] for event in events if event["event"] == "speech_end"]
    assert starts == pytest.approx([0.352, 1.888, 3.52, 4.896, 6.656, 8.16], abs=0.033)
    assert ends == pytest.approx([1.216, 2.816, 4.192, 5.6, 7.392, 8.896], abs=0.033)
    assert events[-1] == {"event": "heard", "at_s": 9.952, "speech": pytest.approx(0.524, abs=0.01)}

    heard, cut = None, []
    for start in range(0, len(sound), 3200):
        some, heard = listen(session, sound[start : start + 3200], heard)
        cut += some[:-1]
    assert [(each["event"], each["at_s"]) for each in cut] == [
        (each["event"], each["at_s"]) for each in events[:-1]
    ]
    np.testing.assert_allclose(heard.memory, whole.memory, atol=1e-5)


@pytest.mark.models
def test_noise_is_no_speech(session):
    """Three seconds of faint noise, and of none."""
    noise = np.random.default_rng(0).normal(0, 33, 3 * RATE).astype("<i2").tobytes()
    for silence in (noise, bytes(6 * RATE)):
        events, _ = listen(session, silence)
        assert [(event["event"], event["speech"]) for event in events] == [("heard", 0)]
