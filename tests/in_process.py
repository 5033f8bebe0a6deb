"""A server in the event loop of a test."""

from wakeful.testing import serving

__all__ = ["serving"]
