"""How a probe's process ended, in fork_server."""

from __future__ import annotations

import pytest

from deployments.preflight import fork_server


@pytest.mark.parametrize(
    ("status", "out_of_memory", "explanation"),
    [
        (0, False, "exit status 0"),
        (3, False, "exit status 3"),
        (-11, False, "SIGSEGV (Segmentation fault)"),
        (-6, True, "SIGABRT"),
        (-9, True, "out of memory"),
        (-9, False, "SIGKILL"),
        (-40, False, "died of signal 40"),
    ],
)
def test_an_exit_is_explained_by_its_status(
    status: int, out_of_memory: bool, explanation: str
) -> None:
    """Exit codes, signals, and the system's own doing."""
    assert explanation in fork_server.explain_exit(status, out_of_memory=out_of_memory)


def test_of_a_crash_the_crashing_frames_are_shown() -> None:
    """They come first in a dump, after anything that was printed."""
    frames = [f'  File "stage.py", line {line} in f' for line in range(50)]
    written = "\n".join(
        [
            "printed before",
            "Fatal Python error: Segmentation fault",
            "",
            "Current thread 0x1:",
            *frames,
        ]
    ).encode()
    assert fork_server.tail(written).splitlines()[:3] == [
        "Fatal Python error: Segmentation fault",
        "Current thread 0x1:",
        frames[0],
    ]
    assert len(fork_server.tail(written).splitlines()) == fork_server.FRAMES


def test_otherwise_the_last_lines_are() -> None:
    """Without the marks under a traceback's lines, and cut where they are long."""
    written = (
        "\n".join(
            [*map(str, range(50)), "    call()", "    ^~~~~~", "Error: " + "x" * 1000]
        ).encode()
        + b"\xff\n"
    )
    last = fork_server.tail(written).splitlines()
    assert len(last) == fork_server.LINES
    assert last[-2:] == ["    call()", ("Error: " + "x" * 1000)[: fork_server.WIDTH]]


def test_silence_adds_nothing() -> None:
    """The message alone."""
    assert fork_server.with_tail("it failed.", b"\n \n") == "it failed."
    assert fork_server.with_tail("it failed.", b"why\n") == "it failed. It wrote:\nwhy"
