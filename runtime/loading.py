"""The parts of a function brought to life: stages imported and constructed, model sessions opened."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from runtime.assemble import Assembly, CalledPart, ModelPart, PythonPart, assemble
from runtime.branch import condition
from runtime.callees import Callees, FunctionStage
from runtime.devices import Gpu
from runtime.errors import LoadError
from runtime.onnx.prepared import find
from runtime.onnx.shared import shared
from runtime.planning import chosen
from runtime.segments import AnyStage, Placed
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage, PythonStage
from runtime.yielding import YieldingStage


def build(
    spec: FunctionSpec,
    settings: Settings,
    callees: Callees,
    gpu: Gpu | None = None,
    module: Callable[[str], ModuleType] = importlib.import_module,
) -> tuple[Assembly, list[Placed], dict[str, float]]:
    """Finds, constructs and opens every stage; blocking.

    Args:
        callees: who is asked for the functions that it calls.
        gpu: the device this process was given; None: the first that it sees.
        module: gives a stage's module by its name.

    One after the other: opening a session and reading a tokenizer both hold the interpreter's lock, and two threads took as long as one.

    Returns:
        The assembly, its stages in order, and seconds by phase: ``read`` (modules, files and wiring found), ``session`` (models opened)
        and ``stages`` (classes constructed).

    Raises:
        LoadError: naming the stage and the key of its declaration.
    """
    began = time.perf_counter()
    session_s = 0.0
    choice = chosen(spec, settings, gpu)

    def open_model(path: Path) -> ModelPart:
        nonlocal session_s
        start = time.perf_counter()
        session_plan = choice.plan_for(path)
        session = shared(path, session_plan, find(path, session_plan, settings.models))
        session_s += time.perf_counter() - start
        return ModelPart(path, session.info, session)

    assembly = assemble(spec, settings, open_model, module)
    if assembly.faults or assembly.graph is None:
        places = ["" if fault.stage is None else f"stage {spec.graph[fault.stage].stage!r}, " for fault in assembly.faults]
        said = [f"{place}{fault.key}: {fault.message}" for place, fault in zip(places, assembly.faults, strict=True)]
        raise LoadError("; ".join(said))
    found = time.perf_counter()
    stages: list[Placed] = []
    kind = "preprocess"
    for declared, part, sources, instead in zip(spec.graph, assembly.parts, assembly.graph.sources, assembly.graph.instead, strict=True):
        stage: AnyStage
        if isinstance(part, PythonPart):
            bound = [sources[param.name] for param in part.signature.params]
            missing = {sources[name]: value for name, value in instead.items()}
            stage = (YieldingStage if part.signature.streams else PythonStage)(
                declared.stage, part.build(), part.signature, bound, kind=kind, instead=missing, outputs=declared.outputs
            )
        elif isinstance(part, CalledPart):
            kind = "postprocess"
            gives = {name: declared.outputs.get(name, name) for name in part.gives}
            stage = FunctionStage(declared.stage, declared.function or "", callees, sources, gives, instead=instead)
        else:
            assert part is not None
            assert part.session is not None
            kind = "postprocess"
            stage = ModelStage(
                declared.stage, part.session, sources, batchable=part.info.batchable, pad=declared.pad, outputs=declared.outputs
            )
        stages.append(Placed(stage, declared.each, None if declared.when is None else condition(declared.when)))
    phases = {"read": found - began - session_s, "session": session_s, "stages": time.perf_counter() - found}
    return assembly, stages, phases
