"""GPUs as Ray hands them out: what this process was given, what `up` refuses because no device holds it, who has what of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import ray

from runtime import gpus
from runtime.devices import Gpu
from runtime.settings import Settings

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
"""Set by Ray in each worker before it starts: to the devices it was given, and to none for a function on CPUs (``rayenv``)."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """What Ray gave this process.

    Attributes:
        ids: of whole or shared devices, as the driver numbers them on this node; empty: none.
        node: the node's id in Ray.
    """

    ids: tuple[str, ...]
    node: str


def assigned() -> Assigned:
    """What Ray gave this worker process."""
    context = ray.get_runtime_context()
    return Assigned(tuple(context.get_accelerator_ids().get("GPU", ())), context.get_node_id())


def given(settings: Settings, ids: Sequence[str]) -> Gpu:
    """The first of those devices as CUDA numbers it in this process, with its memory."""
    return gpus.given(settings, ids, os.environ.get(VISIBLE))
