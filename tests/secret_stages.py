"""Stages that are given a secret, for tests."""

from __future__ import annotations

import os


class Keeps:
    """Says how long its key is, and never what."""

    def __init__(self, key: str, headers: dict[str, str] | None = None) -> None:
        self.key = key

    def __call__(self, text: str) -> int:
        """The length."""
        return len(self.key)


class Tells(Keeps):
    """Prints its key, fails with it, and says which version of it it has and whether its process
    has it as a variable.
    """

    def __call__(self, text: str) -> dict[str, str]:  # type: ignore[override]
        """What it was called with."""
        print("my key is", self.key)
        if text == "fail":
            raise ValueError(f"key {self.key} is wrong")
        return {
            "ends": self.key[-1],
            "in_environment": str(self.key in os.environ.values()),
            "pid": str(os.getpid()),
        }


class Refuses(Keeps):
    """Puts its key into its error."""

    def __init__(self, key: str) -> None:
        print("trying", key)
        raise ValueError(f"no such key: {key} {key!r}")
