"""Which function brought its process down, told after the process's death: recorded in life, read by another."""

from runtime.witness.lastwords import Death, forget, last_words
from runtime.witness.recorder import Witness

__all__ = ["Death", "Witness", "forget", "last_words"]
