"""How the head of a cluster of our own is started; written by the command, read by the process that imports Ray."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How the head of a cluster of our own is started.

    Attributes:
        num_gpus: None lets Ray count them.
        port: of Ray's control store; a free one.
        node_ip: the address of this machine that Ray listens on; the loopback one keeps other machines out.
    """

    temp_dir: str
    num_cpus: int
    object_store_bytes: int
    port: int
    num_gpus: int | None = None
    node_ip: str = LOOPBACK

    @classmethod
    def decode(cls, text: str) -> HeadOptions:
        """From ``encode``'s text."""
        return cls(**json.loads(text))

    def encode(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))
