"""Probing: every function is loaded once in a bounded process of its own, so that a broken one is found before its first caller.

    up ── probe_all (run) ── known? (cache) ─ yes ─▶ told
                              └ no ─▶ nursery, one process with everything imported
                                        └ fork ─▶ child: prepares the models · child: loads the function, measures it

``run`` is the front; ``nursery`` bounds what it lets ``forked`` run; ``child`` is what runs there; ``words`` says what became of it.
"""

from runtime.probe.result import Probe
from runtime.probe.run import Told, probe_all

__all__ = ["Probe", "Told", "probe_all"]
