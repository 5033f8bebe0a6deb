"""The machine a benchmark ran on, in general words: numbers without them mean little, and more would say nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

FEATURES = (("amx_int8", "AMX"), ("avx512_vnni", "AVX-512 VNNI"), ("avx_vnni", "AVX VNNI"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))
"""Instruction sets that decide how fast int8 runs, the best first, as Linux spells them."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def describe() -> str:
    """One line: cores, memory, processor features, versions."""
    memory_gb = psutil.virtual_memory().total / 1e9
    processor = " with ".join(filter(None, [platform.machine(), feature()]))
    parts = [f"{cores()} cores", f"{memory_gb:.0f} GB", processor, platform.system(), f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions()])


def feature(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The best instruction set for int8 that the processor has; empty when unknown."""
    flags = set(re.findall(r"\w+", next(iter(re.findall(r"^flags\s*:(.*)$", read(cpuinfo), re.MULTILINE)), "")))
    return next((name for flag, name in FEATURES if flag in flags), "")


def versions() -> list[str]:
    """What was compared, with versions."""
    found = []
    for package in ("ray", "onnxruntime", "onnxruntime-gpu", "uvicorn", "starlette"):
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return [*found, *wrk_version()]


def wrk_version() -> list[str]:
    """wrk's version, if wrk is there; it prints it above its usage and ends with 1."""
    if not shutil.which("wrk"):
        return []
    output = subprocess.run(["wrk", "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    match = re.search(r"wrk (?:debian/)?([\d.]+)", output)
    return [f"wrk {match[1]}"] if match else []


def read(path: Path) -> str:
    """A file's text, empty when there is none."""
    return path.read_text() if path.exists() else ""
