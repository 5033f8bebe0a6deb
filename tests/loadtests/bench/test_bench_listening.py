"""The streams of the listening benchmark: how sound is cut, and what is read of an answer."""

from __future__ import annotations

import pytest

from loadtests.bench.listening import pieces, told


@pytest.mark.parametrize(
    ("seconds", "length_s", "sizes"), [(1.0, 0.5, [16000, 16000]), (0.25, 0.1, [3200, 3200, 1600]), (2.0, 5.0, [64000])]
)
def test_sound_is_cut_into_pieces(seconds: float, length_s: float, sizes: list[int]) -> None:
    """Of the length wanted, the last as long as is left; a sound that is too short begins again."""
    sound = bytes(range(250)) * 100
    parts = pieces(sound, seconds, length_s)
    assert [len(part) for part in parts] == sizes
    assert b"".join(parts) == (sound * 3)[: sum(sizes)]


def test_events_are_told_from_the_end() -> None:
    """The end of the stream is an event too, and none of speech."""
    begins, heard = b'{"event":"speech_start","at_s":0.352,"speech":0.9}', b'{"event":"heard","at_s":1.0,"speech":0.5}'
    body = b"data: %b\n\ndata: %b\n\nevent: done\ndata: {}\n\n" % (begins, heard)
    assert [(event["event"], event["at_s"]) for event in told(body)] == [("speech_start", 0.352), ("heard", 1.0)]
