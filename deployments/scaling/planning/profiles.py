"""What was measured of functions on one machine, and the file that it is kept in, ``profile.json``.

A profile holds for one machine and for one version of each function. Another one of either is no
mistake of the file, so it is said beside the numbers (``doubts``); a file in another form, or
damaged, is refused.
"""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Final, Literal

import psutil
from pydantic import Field

from deployments.scaling.simulation import BatchCurve, BatchTimes, FunctionCosts, value_at
from runtime.declaration.function_spec import FunctionSpec, version_hash
from runtime.declaration.validation import Number, StrictModel, format_path, validate_all
from runtime.errors import DeclarationError, MalformedBody, NotFound, Problem, RequestError
from runtime.onnx import gpu_memory
from runtime.onnx.prepared_model import processor_features
from runtime.protocol.json_text import loads
from runtime.system.cores import usable_cores
from runtime.system.files import write_whole
from runtime.system.messages import did_you_mean

FORMAT: Final = 3
"""Of the file. Another number is another meaning of its numbers."""

PACKAGES: Final = ("wakeful", "onnxruntime", "onnxruntime-gpu", "numpy")

FILE: Final = Path("profile.json")


Seconds = Annotated[Number, Field(ge=0, le=86400)]
Ratio = Annotated[Number, Field(ge=0, le=1000)]


IdleExtra = Annotated[tuple[Seconds, Seconds], Field(strict=False)]


class ProfiledBatch(StrictModel):
    """Batches of so many rows of one length."""

    length: Number = Field(
        ge=0, le=1e9, description="Elements of a row's largest padded tensor; 0: none."
    )
    body_bytes: int = Field(ge=0, description="Of one row as JSON.")
    rows: int = Field(ge=1)
    seconds: Seconds = Field(description="Of a worker, the median.")
    spread: tuple[Ratio, ...] = Field(
        strict=False,
        min_length=1,
        description="Seconds of equal shares of the runs over their median, each the share's mean.",
    )
    runs: int = Field(ge=1)


class FunctionProfile(StrictModel):
    """What was measured of one version of a function."""

    version: str
    device: str = Field(description="What its models ran on; empty: it has none.")
    batches: tuple[ProfiledBatch, ...] = Field(strict=False, min_length=1)
    drift: Ratio = Field(
        description="How far the median of a round lay from that of all, as a share; the machine's."
    )
    shares_runs: bool = Field(description="Rows share runs of a model.")
    crowded: Annotated[Number, Field(ge=1, le=1000)] = Field(
        description="Seconds of a row while all cores compute the same, over those alone."
    )
    http: Literal["in process", "by URL"] = Field(
        description="Where calls over HTTP were answered: in the process that measured, or by a"
        " server, with all that stands before it."
    )
    call_s: Seconds = Field(description="Of one caller's call over HTTP, the median.")
    served: Ratio = Field(
        description="Worker seconds of these calls, one upon the other, over those of `batches`."
    )
    idle_extra_s: tuple[IdleExtra, ...] = Field(
        strict=False,
        min_length=1,
        description="Seconds for which a worker had nothing to do, and what its next batch takes"
        " longer then.",
    )
    beside_s: tuple[Seconds, ...] = Field(
        strict=False,
        min_length=1,
        description="Of a call over HTTP, beside its worker: of equal shares of the calls.",
    )
    beside_cpu_s: Seconds = Field(
        description="Of them, of processors of the machine that serves, at most."
    )
    wake_s: dict[str, Seconds] = Field(description="By phase of a load, and `total`.")
    memory_bytes: int = Field(ge=0)
    mapped_bytes: int = Field(ge=0)
    gpu_memory_mb: int = Field(ge=0)
    notes: tuple[str, ...] = Field((), strict=False)

    def costs(self, times: float = 1.0) -> FunctionCosts:
        """As the simulator takes them.

        Args:
            times: that each batch takes as long.
        """
        by_length: dict[float, list[ProfiledBatch]] = {}
        for batch in sorted(self.batches, key=lambda batch: (batch.length, batch.rows)):
            by_length.setdefault(float(batch.length), []).append(batch)
        return FunctionCosts(
            BatchTimes(tuple(_curve(length, found) for length, found in by_length.items())),
            served=self.served * times,
            idle_extra=tuple((float(idle), float(extra)) for idle, extra in self.idle_extra_s),
            crowded=self.crowded,
            beside=tuple(map(float, self.beside_s)),
            beside_cpu_s=self.beside_cpu_s,
            length=float(self.batches[0].length),
            shares_runs=self.shares_runs,
            wake_s=self.wake_s.get("total"),
            memory_bytes=self.memory_bytes,
        )

    def length_of(self, body_bytes: int) -> float:
        """The length of a row whose JSON has so many bytes, by the rows that were measured."""
        known = sorted({(batch.body_bytes, float(batch.length)) for batch in self.batches})
        if len(known) == 1:
            return known[0][1]
        return max(1.0, value_at(known, body_bytes))


def _curve(length: float, batches: Sequence[ProfiledBatch]) -> BatchCurve:
    return BatchCurve(
        length,
        tuple((float(batch.rows), float(batch.seconds)) for batch in batches),
        tuple(tuple(map(float, batch.spread)) for batch in batches),
    )


class ProfiledMachine(StrictModel):
    """Where it was measured."""

    processor: str
    features: str = Field(description="A hash of its vector instructions.")
    cores: int = Field(ge=1)
    memory_bytes: int = Field(ge=1)
    gpus: tuple[int, ...] = Field((), strict=False, description="Bytes of each GPU's memory.")
    versions: dict[str, str]


class Profile(StrictModel):
    """A file."""

    wakeful_profile: int = Field(description="The form of the file.")
    made: str
    machine: ProfiledMachine
    process_bytes: int = Field(ge=0, description="Of an engine's process without functions.")
    functions: dict[str, FunctionProfile]

    def function(self, name: str) -> FunctionProfile:
        """One of it.

        Raises:
            NotFound: it was not profiled.
        """
        if name not in self.functions:
            others = ", ".join(self.functions) or "none"
            near = did_you_mean(name, list(self.functions)) or f"; there are: {others}."
            raise NotFound(
                f"{name!r} is not in the profile{near} `wakeful profile --function {name}` adds it."
            )
        return self.functions[name]

    def doubts(self, specs: Mapping[str, FunctionSpec], here: ProfiledMachine) -> list[str]:
        """Why its numbers may be of something else, in words.

        Args:
            specs: of the functions that are planned, by name.
            here: this machine.
        """
        found = []
        mine = self.machine
        if (mine.processor, mine.features, mine.cores) != (
            here.processor,
            here.features,
            here.cores,
        ):
            found.append(
                f"the profile is of another machine: {mine.processor}, {mine.cores} cores; here are"
                f" {here.processor}, {here.cores} cores. The plan is for machines like that one."
            )
        other = sorted(
            f"{name} {version}, here {here.versions.get(name, 'none')}"
            for name, version in mine.versions.items()
            if here.versions.get(name) != version
        )
        if other:
            found.append(f"the profile was made with {'; '.join(other)}. Profile again.")
        stale = [
            name
            for name, spec in specs.items()
            if name in self.functions and self.functions[name].version != version_hash(spec)
        ]
        if stale:
            found.append(
                f"{', '.join(stale)} changed since the profile was made: code, models or resources"
                " are others. Profile again."
            )
        return [*found, *self._gpu_doubts(specs, here)]

    def _gpu_doubts(
        self, specs: Mapping[str, FunctionSpec], here: ProfiledMachine
    ) -> Iterator[str]:
        """The same of functions that take GPUs."""
        taking = {name: spec for name, spec in specs.items() if spec.resources.num_gpus}
        if taking and self.machine.gpus != here.gpus:
            yield (
                f"the profile's machine has {_gpu_words(self.machine.gpus)}; here:"
                f" {_gpu_words(here.gpus)}. What another GPU takes is not known."
            )
        for name, spec in taking.items():
            one = self.functions.get(name)
            if one is None:
                continue
            if not one.gpu_memory_mb:
                yield (
                    f"{name} takes {spec.resources.num_gpus:g} of a GPU and was measured without"
                    f" one ({one.device or 'no model'}): its times are not those of a GPU. Profile"
                    " it on a machine that has one."
                )
            elif self.machine.gpus and (
                why := gpu_memory.share_overflow_message(
                    spec.resources.num_gpus,
                    spec.resources.gpu_memory_mb or one.gpu_memory_mb,
                    min(self.machine.gpus) // gpu_memory.MB,
                )
            ):
                yield f"{name}: {why}"


def _gpu_words(gpus: Sequence[int]) -> str:
    sizes = ", ".join(f"{size / 1e9:.0f} GB" for size in gpus)
    return f"{len(gpus)} GPUs ({sizes})" if gpus else "no GPU"


def this_machine() -> ProfiledMachine:
    """The machine that this process runs on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ProfiledMachine(
        processor=_processor(),
        features=processor_features(),
        cores=usable_cores(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=tuple(device.total_bytes for device in gpu_memory.list_devices()),
        versions=versions,
    )


def _processor(file: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as the system has it."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def make_profile(
    functions: Mapping[str, FunctionProfile], machine: ProfiledMachine, process_bytes: int
) -> Profile:
    """A profile of what was measured now."""
    return Profile(
        wakeful_profile=FORMAT,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        process_bytes=process_bytes,
        functions=dict(functions),
    )


def refuse_other_file(path: Path) -> None:
    """Raises what stands where a profile is to be written and is none.

    Raises:
        RequestError: with the option that gives another place.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        why = error.strerror or str(error)
        raise RequestError(f"{path} cannot be read: {why}.", where="--out") from error
    if head.strip() and b"wakeful_profile" not in head:
        raise RequestError(
            f"{path} is there, and is no profile. Give the name of another file.", where="--out"
        )


def write_profile(profile: Profile, path: Path) -> None:
    """Writes the file, whole or not at all; functions that it has already, measured on this machine
    with these versions and not again now, stay in it.

    Raises:
        OSError: it cannot be written.
    """
    kept: dict[str, FunctionProfile] = {}
    try:
        before = read_profile(path)
    except DeclarationError:
        pass
    else:
        if before.machine == profile.machine:
            kept = before.functions
    merged = profile.model_copy(update={"functions": {**kept, **profile.functions}})
    write_whole(path, json.dumps(merged.model_dump(mode="json"), indent=1) + "\n")


def read_profile(path: Path) -> Profile:
    """A profile that was written before.

    Raises:
        DeclarationError: it is not there, damaged, or of another form.
    """

    def refused(message: str, key: str = "") -> DeclarationError:
        return DeclarationError([Problem(str(path), 0, key, message)])

    try:
        data = loads(path.read_bytes())
    except FileNotFoundError:
        raise refused("it is not there. `wakeful profile` makes it.") from None
    except OSError as error:
        raise refused(f"it cannot be read: {error.strerror or error}.") from error
    except MalformedBody as error:
        raise refused(f"it is damaged: {error.message} `wakeful profile` makes it anew.") from None
    form = data.get("wakeful_profile") if isinstance(data, dict) else None
    if form != FORMAT:
        what = "no profile" if form is None else f"a profile of form {form!r}"
        raise refused(
            f"it is {what}; this Wakeful reads those of form {FORMAT}. `wakeful profile` makes it"
            " anew.",
            "wakeful_profile",
        )
    profile, issues = validate_all(Profile, data)
    if profile is None:
        raise DeclarationError(
            [Problem(str(path), 0, format_path(one.path), one.message) for one in issues]
        )
    return profile
