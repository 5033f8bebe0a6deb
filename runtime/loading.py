"""The parts of a function brought to life: stages imported and constructed, model sessions opened."""

from __future__ import annotations

import time
from pathlib import Path

from runtime.assemble import Assembly, ModelPart, PythonPart, assemble
from runtime.errors import LoadError
from runtime.onnx.options import plan
from runtime.onnx.prepared import find
from runtime.onnx.session import Session
from runtime.settings import Settings
from runtime.spec import FunctionSpec
from runtime.stages import ModelStage, PythonStage


def build(spec: FunctionSpec, settings: Settings) -> tuple[Assembly, list[PythonStage | ModelStage], dict[str, float]]:
    """Finds, constructs and opens every stage; blocking.

    One after the other: opening a session and reading a tokenizer both hold the interpreter's lock, and two threads took as long as one.

    Returns:
        The assembly, its stages in order, and seconds by phase: ``read`` (modules, files and wiring found), ``session`` (models opened)
        and ``stages`` (classes constructed).

    Raises:
        LoadError: naming the stage and the key of its declaration.
    """
    began = time.perf_counter()
    session_s = 0.0
    session_plan = plan(spec.resources.num_gpus, spec.resources.providers)

    def open_model(path: Path) -> ModelPart:
        nonlocal session_s
        start = time.perf_counter()
        session = Session(path, session_plan, find(path, session_plan, settings.models))
        session_s += time.perf_counter() - start
        return ModelPart(path, session.info, session)

    assembly = assemble(spec, settings, open_model)
    if assembly.faults or assembly.graph is None:
        raise LoadError("; ".join(f"stage {spec.graph[fault.stage].stage!r}, {fault.key}: {fault.message}" for fault in assembly.faults))
    found = time.perf_counter()
    stages: list[PythonStage | ModelStage] = []
    kind = "preprocess"
    for declared, part, sources in zip(spec.graph, assembly.parts, assembly.graph.sources, strict=True):
        if isinstance(part, PythonPart):
            bound = [sources[param.name] for param in part.signature.params]
            stages.append(PythonStage(declared.stage, part.build(), part.signature, bound, kind=kind))
        elif part is not None and part.session is not None:
            kind = "postprocess"
            stages.append(ModelStage(declared.stage, part.session, sources, batchable=part.info.batchable, pad=declared.pad))
    phases = {"read": found - began - session_s, "session": session_s, "stages": time.perf_counter() - found}
    return assembly, stages, phases
