"""What a call is known by in another process."""

from __future__ import annotations

import subprocess
import sys

from runtime.system.crash.recorder import fingerprint


def test_bodies_and_functions_are_distinguished():
    """A byte, a length or a function's name makes another number; it has 48 bits and is never the 0
    of those that have none.
    """
    seen = [
        fingerprint(body, function)
        for body in (b"", b"a", b"b", b"aa", b"\0", b"\0\0")
        for function in ("", "f", "g")
    ]
    assert len(set(seen)) == len(seen)
    assert all(0 < one < 2**48 for one in seen)
    assert (
        fingerprint(bytearray(b"a"), "f")
        == fingerprint(memoryview(b"a"), "f")
        == fingerprint(b"a", "f")
    )


def test_another_process_makes_the_same_number():
    """Unlike Python's own hashes."""
    code = "from runtime.system.crash.recorder import fingerprint; print(fingerprint(b'body', 'f'))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert int(result.stdout) == fingerprint(b"body", "f")


def test_large_bodies_are_distinguished_as_well():
    """By any byte, wherever it is: in a part, in what is left behind the last, one taken away;
    from wherever in memory they are.
    """
    body = bytes(range(256)) * 2000
    seen = {fingerprint(body), fingerprint(body[:-1]), fingerprint(body, "f")}
    for index in (0, 1, 200_000, len(body) - 1):
        seen.add(fingerprint(body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]))
    assert len(seen) == 7
    assert fingerprint(memoryview(b"xyz" + body)[3:]) == fingerprint(body)
