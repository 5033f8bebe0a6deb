"""What brought a process down, told after the process's death: recorded in life, read by another."""

from runtime.witness.condemned import Condemned, Sentence
from runtime.witness.lastwords import Death
from runtime.witness.recorder import Witness
from runtime.witness.register import last_words, told

__all__ = ["Condemned", "Death", "Sentence", "Witness", "last_words", "told"]
