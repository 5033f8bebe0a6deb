"""What a function is loaded from, against what it was declared to be made of."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final

from runtime import contents
from runtime.given import stage_modules
from runtime.reimport import Code, take
from runtime.settings import Settings
from runtime.spec import FunctionSpec

NOUNS: Final = {contents.CODE: "code", contents.MODELS: "models", contents.FILES: "files"}


@dataclass(frozen=True, slots=True)
class Origin:
    """What a load begins with.

    Attributes:
        module: gives a stage's module by its name, or raises what its import raised.
        code: to be held while the function may be loaded again; None for a declaration that says nothing of it.
        astray: why this is not the version that was declared; empty when it is.
    """

    module: Callable[[str], ModuleType] = importlib.import_module
    code: Code | None = None
    astray: str = ""


def origin(spec: FunctionSpec, settings: Settings) -> Origin:
    """Imports what the function was declared with, where that is to be had, and looks at its files; blocking.

    What is not as declared is loaded all the same: files that are edited before the next ``wakeful up`` take nobody's answers away. But it
    is said. A declaration that ``up`` has not seen is loaded from what the process has.
    """
    if not spec.made_of:
        return Origin()
    taken = take(stage_modules(spec), spec.made_of.get(contents.CODE, ""))
    found = {contents.CODE: taken.digest, **contents.data(spec, settings)}
    changed = [NOUNS[kind] for kind in NOUNS if found[kind] and found[kind] != spec.made_of.get(kind, "")]
    said = f"its {' and '.join(changed)} changed after `wakeful up`, which has not seen what runs now. Run it again." if changed else ""
    return Origin(taken.module, taken.code, said)
