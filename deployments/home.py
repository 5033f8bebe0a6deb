"""The state folder: what ``up`` leaves behind so that ``down``, ``status`` and ``logs`` find it from another shell."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from deployments.headoptions import LOOPBACK
from deployments.rayenv import SidePorts
from runtime.errors import WakefulError

MAX_PATH: Final = 34
"""Longest path of a state folder: sockets below it take up to 70 characters more, and the strictest system allows 104."""


class Busy(WakefulError):
    """Another command starts or stops the cluster right now."""

    code = "busy"
    fault = "operator"


class Unusable(WakefulError):
    """The state folder cannot be trusted or used."""

    code = "state_folder"
    fault = "operator"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function, or another application, as it was last deployed.

    Attributes:
        role: ``function`` for ours, ``catalogue``, ``host`` or ``other`` else.
        fingerprint: of everything that was declared; another one means: deploy again.
        resources: what a replica takes, as declared: ``{"num_cpus": 1, "num_gpus": 0.5}``.
        hosted: it has no application of its own but for the time it is promoted.
        note: what people are to know of it though it serves: that a new version was refused.
        part_of: the function whose stage it is; empty for one that stands in the file.
    """

    name: str
    route_prefix: str
    role: str
    fingerprint: str
    resources: dict[str, float] = field(default_factory=dict)
    hosted: bool = False
    note: str = field(default="", compare=False)
    part_of: str = ""


@dataclass(frozen=True, slots=True)
class Up:
    """What is up.

    Attributes:
        kind: ``own`` if ``up`` started Ray, ``joined`` if it came to a cluster that was there, ``node`` if this machine joined another's.
        address: Ray's; empty until Ray has started.
        host: address that HTTP is served on.
        port: likewise.
        file: the declaration, absolute.
        serve_is_ours: whether Ray Serve was started by ``up``, and so is stopped by ``down``.
        ports: of an own cluster.
        deployed: in file order.
        node_ip: the address that Ray listens on, of an own cluster or a node.
    """

    kind: Literal["own", "joined", "node"]
    address: str
    host: str
    port: int
    file: str
    root: str
    models: str
    serve_is_ours: bool = True
    ports: SidePorts | None = None
    deployed: tuple[Deployed, ...] = ()
    node_ip: str = LOOPBACK

    @property
    def url(self) -> str:
        """Where the functions are, as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether there may be more machines than this one."""
        return self.kind != "own" or self.node_ip != LOOPBACK

    @property
    def owner(self) -> str:
        """The application that owns placement; empty if there is none."""
        return next((entry.name for entry in self.deployed if entry.role == "catalogue"), "")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The name of the shared host's application, if there is one."""
        return tuple(entry.name for entry in self.deployed if entry.role == "host")

    @property
    def functions(self) -> tuple[Deployed, ...]:
        """The functions among what is deployed."""
        return tuple(entry for entry in self.deployed if entry.role == "function")


class Home:
    """The state folder of one user on this machine; there is one cluster at a time in it.

    Args:
        path: the folder; by default one of the user's own in the system's folder for temporary files.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default()

    def prepare(self) -> None:
        """The folder exists afterwards, is ours alone, and holds a token.

        Raises:
            Unusable: it belongs to somebody else, or its path is too long for Ray's sockets.
        """
        if len(os.fsencode(self.path)) > MAX_PATH:
            raise Unusable(f"the path of the state folder, {self.path}, is too long for Ray's sockets. Set TMPDIR to a shorter one.")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.path.lstat()
        if self.path.is_symlink() or status.st_uid != os.getuid():
            raise Unusable(f"the state folder {self.path} belongs to somebody else. Remove it, or set TMPDIR to a folder of yours.")
        self.path.chmod(0o700)
        token = self.path / "token"
        if not token.exists():
            token.touch(mode=0o600, exist_ok=False)
            token.write_text(secrets.token_hex(32), encoding="ascii")

    def key(self) -> bytes:
        """Its token, as a key for marks of what is not to be guessed from them."""
        return (self.path / "token").read_bytes()

    def load(self) -> Up | None:
        """What is up, as far as was written down; None for nothing."""
        try:
            data: dict[str, Any] = json.loads((self.path / "up.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        ports = SidePorts(**data.pop("ports")) if data["ports"] else None
        return Up(**{**data, "ports": ports, "deployed": tuple(Deployed(**entry) for entry in data["deployed"])})

    def save(self, up: Up) -> None:
        """Write it down; a reader sees all of it or what stood before."""
        draft = self.path / "up.json.new"
        draft.write_text(json.dumps(asdict(up), indent=1), encoding="utf-8")
        draft.replace(self.path / "up.json")

    def save_applications(self, applications: Sequence[dict[str, Any]]) -> None:
        """Keep the version of each application that stands: for the day that a new one fails, or that one function goes."""
        draft = self.path / "applications.json.new"
        draft.write_text(json.dumps(applications), encoding="utf-8")
        draft.replace(self.path / "applications.json")

    def load_applications(self) -> list[dict[str, Any]]:
        """Those that were kept."""
        file = self.path / "applications.json"
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        return found

    def clear(self) -> None:
        """Nothing is up any more. Logs stay until the next ``up``."""
        (self.path / "up.json").unlink(missing_ok=True)

    def wipe(self) -> None:
        """What an earlier cluster left: its logs, sockets, HAProxy's files, decisions and words of its dead."""
        for folder in ("ray", "hap", "hosts", "bells"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for file in self.path.glob("decisions.jsonl*"):
            file.unlink()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time starts or stops the cluster.

        Raises:
            Busy: another one is at it.
        """
        (self.path / "lock").touch(mode=0o600)
        with (self.path / "lock").open("r+", encoding="ascii") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                by = held.read().strip() or "unknown"
                raise Busy(f"another command (process {by}) starts or stops the cluster. Wait for it.") from None
            held.truncate(0)
            held.write(str(os.getpid()))
            held.flush()
            yield

    @property
    def logs(self) -> Path:
        """The folder of log files of Ray's last session."""
        return self.path / "ray" / "session_latest" / "logs"


def default() -> Path:
    """This user's state folder: in ``TMPDIR``, or in ``/tmp`` where that is too long, as it is on macOS."""
    folder = Path(tempfile.gettempdir()) / f"wakeful-{os.getuid()}"
    return folder if len(os.fsencode(folder)) <= MAX_PATH else Path("/tmp") / folder.name
