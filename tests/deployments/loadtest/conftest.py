"""Servers on loopback, and plans of loads on them."""

from __future__ import annotations

from tests.loadtests.conftest import serve

__all__ = ["serve"]
