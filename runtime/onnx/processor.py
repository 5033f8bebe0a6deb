"""Which instructions this processor has: kernels, and the layouts that they want weights in, are chosen by them."""

from __future__ import annotations

import hashlib
import platform
import re
from functools import cache
from pathlib import Path

_FEATURES = re.compile(r"avx\w*|amx\w*|f?ma\w*|f16c|s?sse\w*|asimd\w*|sve\w*|sme\w*|i8mm|bf16|dotprod")
"""Vectors and matrices; the other flags change with the kernel and decide nothing here."""


@cache
def features(file: Path = Path("/proc/cpuinfo")) -> str:
    """A short hash of the vector instructions; of the processor's name where the system lists none."""
    try:
        with file.open() as lines:  # the first processor's are enough; some machines have hundreds
            flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    except OSError:
        flags = ""
    names = sorted(name for name in flags.partition(":")[2].split() if _FEATURES.fullmatch(name))
    return hashlib.sha256(" ".join(names or [platform.processor()]).encode()).hexdigest()[:12]
