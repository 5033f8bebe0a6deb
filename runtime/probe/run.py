"""The probes of a file's functions: what is known is looked up, the rest is run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import psutil

from runtime import nvml
from runtime.declaration.references import names
from runtime.devices import MB, on_cpu, share_of
from runtime.memory import free_bytes
from runtime.nvml import DeviceMemory
from runtime.probe.cache import Cache
from runtime.probe.result import Probe
from runtime.settings import Settings
from runtime.spec import FunctionSpec

Told = Callable[[Probe], None]
"""Hears each probe when it is known; ``cached`` and ``took_s`` say how it went."""

END_S: Final = 5.0
"""The nursery ends its children and itself in milliseconds, once it is told to."""

_START: Final = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from runtime.probe.nursery import main; main()"


def probe_all(
    specs: Sequence[FunctionSpec],
    settings: Settings,
    told: Told = lambda probe: None,
    *,
    environment: Mapping[str, str] | None = None,
) -> list[Probe]:
    """Probes every function, as many at once as there are cores, and prepares their models; blocking.

    Stages are imported as this process would import them (``sys.path``).

    Args:
        told: hears each probe when it is known, in no certain order.
        environment: of the processes that load; None: this process's.

    Returns:
        One probe a function, in the order of ``specs``. What a function does wrong is in its ``error``; nothing is raised for it.
    """
    cache = Cache(settings)
    devices = () if all(on_cpu(spec.resources) for spec in specs) else nvml.devices()
    found: dict[int, Probe] = {}
    groups: dict[str, list[int]] = {}
    known: dict[str, Probe | None] = {}

    def tell(index: int, probe: Probe) -> None:
        found[index] = replace(probe, name=specs[index].name, error=settings.secrets.hide(probe.error))
        told(found[index])

    for index, spec in enumerate(specs):
        if why := unseen(spec, devices):
            tell(index, Probe(spec.name, skipped=why))
            continue
        key = cache.key(spec)
        if key not in known:
            known[key] = cache.get(key)
        if (former := known[key]) is not None:
            tell(index, replace(former, cached=True, took_s=0.0))
        else:
            groups.setdefault(key, []).append(index)
    with contextlib.closing(_run(groups, specs, settings, environment)) as ran:
        for key, probe, files in ran:
            if not probe.error:
                cache.put(key, asdict(probe), files)
            for index in groups[key]:
                tell(index, probe)
    if groups:
        cache.trim()
    return [found[index] for index in range(len(specs))]


def unseen(spec: FunctionSpec, devices: Sequence[DeviceMemory]) -> str:
    """Why nothing is tried with a function; empty for one that is to be probed."""
    if on_cpu(spec.resources):
        return ""
    if not spec.resources.num_gpus or not devices:
        return "it needs a device that this machine need not have; its own deployment finds out"
    most_free = max(device.total_bytes - device.used_bytes for device in devices)
    wanted_mb = spec.resources.gpu_memory_mb or share_of(spec.resources.num_gpus) * devices[0].total_bytes / MB
    if most_free < wanted_mb * MB:
        return f"its share of a GPU, {wanted_mb:.0f} MB, is not free now; its own deployment finds out"
    return ""


def _run(
    groups: Mapping[str, Sequence[int]], specs: Sequence[FunctionSpec], settings: Settings, environment: Mapping[str, str] | None
) -> Generator[tuple[str, Probe, dict[str, Any]]]:
    """A probe for each key, and the files it depended on."""
    if not groups:
        return
    keys = list(groups)
    firsts = [specs[groups[key][0]] for key in keys]
    limit = settings.probe_memory_mb * 1_000_000 if settings.probe_memory_mb is not None else free_bytes()
    request = {
        "root": str(settings.root),
        "models": str(settings.models),
        "secrets": settings.secrets.given(names(stage.with_ for spec in firsts for stage in spec.graph)),
        "gpu_memory_mb": settings.gpu_memory_mb,
        "timeout_s": settings.probe_timeout_s,
        "memory_bytes": limit,
        "parallel": max(1, len(psutil.Process().cpu_affinity()) if psutil.LINUX else psutil.cpu_count() or 1),
        "jobs": [
            {"index": index, "name": spec.name, "route_prefix": spec.route_prefix, "args": spec.to_args()}
            for index, spec in enumerate(firsts)
        ],
    }
    missing = set(range(len(keys)))
    nursery = subprocess.Popen(
        [sys.executable, "-c", _START, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    try:
        nursery.stdin.write(json.dumps(request).encode() + b"\n")
        nursery.stdin.flush()
        for line in nursery.stdout:
            data = json.loads(line)
            index, files = data.pop("index"), data.pop("files", {})
            missing.discard(index)
            yield keys[index], Probe(firsts[index].name, **data), files
    except BrokenPipeError:
        pass
    finally:
        nursery.stdin.close()
        try:
            nursery.wait(END_S)
        except subprocess.TimeoutExpired:
            nursery.kill()
            nursery.wait()
        nursery.stdout.close()
    for index in sorted(missing):
        said = f"the process that probes functions ended with {nursery.returncode} before this one was done; what it wrote stands above."
        yield keys[index], Probe(firsts[index].name, error=said), {}
