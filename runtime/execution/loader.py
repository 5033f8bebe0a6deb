"""Loads the parts of a function: imports and constructs its stages, opens its models on the device
that the process was given, and reports what they really run on.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.artifacts.sources import model_files
from runtime.batching.fan_out import ElementOrder
from runtime.declaration.function_spec import FunctionSpec, StageSpec
from runtime.errors import LoadError
from runtime.execution.handles import FunctionHandles
from runtime.execution.segments import AnyStage, GraphStage
from runtime.execution.stages.function_stage import FunctionCaller, FunctionStage
from runtime.execution.stages.generator_stage import GeneratorStage
from runtime.execution.stages.model_stage import ModelStage
from runtime.execution.stages.python_stage import PythonStage
from runtime.graph.assembly import Assembly, assemble
from runtime.graph.resolved_stages import (
    ResolvedCallee,
    ResolvedModel,
    ResolvedPython,
    threads_of,
)
from runtime.onnx.gpu_memory import GpuDevice, assigned_gpu
from runtime.onnx.prepared_model import find_prepared
from runtime.onnx.providers import CPU, PROVIDERS, ProviderChoice, choose_providers
from runtime.onnx.session import Session, open_shared
from runtime.settings import Settings
from runtime.types.conditions import parse_condition


def build_function(
    spec: FunctionSpec,
    settings: Settings,
    callees: FunctionCaller,
    gpu: GpuDevice | None = None,
    handles: FunctionHandles | None = None,
) -> tuple[Assembly, list[GraphStage], dict[str, float]]:
    """Finds, constructs and opens every stage; blocking.

    One after the other: opening a session and reading a tokenizer both hold the interpreter's lock,
    and two threads took as long as one.

    Args:
        callees: calls the functions that it calls.
        gpu: the device this process was given; None: the first that it sees.
        handles: of the functions that stages are given; None: they are given none.

    Returns:
        The assembly, its stages in order, and seconds by phase: ``read`` (modules, files and wiring
        found), ``session`` (models opened) and ``stages`` (classes constructed).

    Raises:
        LoadError: naming the stage and the key of its declaration.
    """
    began = time.perf_counter()
    session_s = 0.0

    @functools.cache
    def choice() -> ProviderChoice:
        return choose_session_plans(spec, settings, gpu)

    if not spec.resources.is_cpu_only:
        choice()  # a device that is missing is refused, whether or not there are models

    def open_model(path: Path) -> ResolvedModel:
        nonlocal session_s
        start = time.perf_counter()
        session_plan = choice().plan_for(path)
        session = open_shared(
            path, session_plan, find_prepared(path, session_plan, settings.models)
        )
        session_s += time.perf_counter() - start
        return ResolvedModel(path, session.info, session)

    assembly = assemble(spec, settings, open_model)
    if assembly.issues or assembly.graph is None:
        places = [
            "" if fault.stage is None else f"stage {spec.graph[fault.stage].stage!r}, "
            for fault in assembly.issues
        ]
        messages = [
            f"{place}{fault.key}: {fault.message}"
            for place, fault in zip(places, assembly.issues, strict=True)
        ]
        raise LoadError("; ".join(messages))
    found = time.perf_counter()
    stages: list[GraphStage] = []
    kind = "preprocess"
    for index, (declared, part, sources, instead) in enumerate(
        zip(
            spec.graph,
            assembly.stages,
            assembly.graph.sources,
            assembly.graph.defaults,
            strict=True,
        )
    ):
        stage: AnyStage
        build = None
        if isinstance(part, ResolvedPython):
            bound = [sources[param.name] for param in part.signature.params]
            construct = functools.partial(_build, declared.stage, part, handles)
            build = construct if isinstance(part.target, type) else None
            missing = {sources[name]: value for name, value in instead.items()}
            stage = (GeneratorStage if part.signature.is_generator else PythonStage)(
                declared.stage,
                construct(),
                part.signature,
                bound,
                kind=kind,
                defaults=missing,
                outputs=declared.outputs,
                called=assembly.called.get(index),
            )
        elif isinstance(part, ResolvedCallee):
            kind = "postprocess"
            gives = {name: declared.outputs.get(name, name) for name in part.gives}
            lacking = {name for name, value in part.gives.items() if value.may_lack}
            stage = FunctionStage(
                declared.stage,
                declared.function or "",
                callees,
                sources,
                gives,
                defaults=instead,
                lacking=lacking,
            )
        else:
            assert part is not None
            assert part.session is not None
            kind = "postprocess"
            stage = ModelStage(
                declared.stage,
                part.session,
                sources,
                batchable=part.info.batchable,
                pad=declared.pad,
                outputs=declared.outputs,
            )
        stages.append(
            GraphStage(
                stage,
                declared.each,
                None if declared.when is None else parse_condition(declared.when),
                threads_of(declared, part),
                _element_order(declared),
                build,
            )
        )
    phases = {
        "read": found - began - session_s,
        "session": session_s,
        "stages": time.perf_counter() - found,
    }
    return assembly, stages, phases


def _element_order(stage: StageSpec) -> ElementOrder | None:
    """In what order a stage's elements are streamed; None: they are not."""
    if not stage.stream:
        return None
    return "as done" if stage.ordered is False else "in order"


def _build(stage: str, part: ResolvedPython, handles: FunctionHandles | None) -> Callable[..., Any]:
    """What is called with the values of a Python stage."""
    if handles is None:
        return part.build()
    call = part.build(functools.partial(handles.init_handle, signature=part.signature, stage=stage))
    return handles.bind(call, part.signature, stage)


def choose_session_plans(
    spec: FunctionSpec, settings: Settings, gpu: GpuDevice | None = None
) -> ProviderChoice:
    """What the models of a function are opened with; ``ProviderChoice.plan_for`` has it for each
    file.

    Args:
        gpu: the device this process was given; None: the first that it sees.

    Raises:
        LoadError: the function declares a device that is not available.
    """
    if spec.resources.is_cpu_only:
        return choose_providers(spec.resources, GpuDevice(), (), settings.models)
    return choose_providers(
        spec.resources, gpu or assigned_gpu(settings), model_files(spec, settings), settings.models
    )


DEVICES: Final[Mapping[str, str]] = {
    providers[0]: device for device, providers in PROVIDERS.items()
}
"""Device by the execution provider that makes it."""


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """What the models of a loaded function really run on, as ONNX Runtime reports it, in the words
    of ``resources.device``.

    Attributes:
        device: of the first model that is not on the CPU, else ``cpu``; empty for a function
            without models.
        nodes: of their graphs; 0 for models that were to run on the CPU alone.
        cpu_nodes: those of them that the CPU has, since the device's provider has no kernel for
            them.
        fallback: why a model runs on the CPU though a device was declared; empty if none does.
    """

    device: str
    nodes: int = 0
    cpu_nodes: int = 0
    fallback: str = ""


def device_report(sessions: Iterable[Session]) -> DeviceReport:
    """The report of these sessions together."""
    sessions = list(sessions)
    devices = sorted(
        {DEVICES.get(session.provider, session.provider) for session in sessions},
        key=lambda name: name == "cpu",
    )
    counts = [session.count_nodes() for session in sessions]
    return DeviceReport(
        device=devices[0] if devices else "",
        nodes=sum(sum(count.values()) for count in counts),
        cpu_nodes=sum(count.get(CPU, 0) for count in counts),
        fallback=next((session.fallback for session in sessions if session.fallback), ""),
    )
