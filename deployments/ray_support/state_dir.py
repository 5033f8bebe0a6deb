"""The state folder: what ``up`` writes so that ``down``, ``status`` and ``logs`` find the cluster
from another shell.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from deployments.ray_support import ports
from deployments.ray_support.deadlines import KEEP_ALIVE_S, RAYS_HARD_STOP_S
from deployments.ray_support.environment import (
    LOOPBACK,
    MARK,
    SidePorts,
    ingress_variables,
)
from deployments.ray_support.haproxy_names import INNER_SOCKET, KEYS_FAULT, LACKS
from deployments.ray_support.texts import LAST_SESSION
from runtime.errors import WakefulError
from runtime.system.secrets import derive_secret

logger = logging.getLogger("wakeful.state")

MAX_PATH: Final = 34
"""Longest path of a state folder: sockets below it take up to 70 characters more, and the strictest
system allows 104.
"""


WIRE: Final = 5
"""The form of what the processes of a cluster send each other (``deployments.control``). Counted up
with each change after which processes of two versions do not understand each other: a cluster of
another form is neither updated nor joined.
"""


class StateDirBusy(WakefulError):
    """Another command starts or stops the cluster right now."""

    code = "busy"
    fault = "operator"


class StateDirUnusable(WakefulError):
    """The state folder cannot be trusted or used."""

    code = "state_folder"
    fault = "operator"


@dataclass(frozen=True, slots=True)
class DeployedApp:
    """A function, or another application, as it was last deployed.

    Attributes:
        role: ``function``, ``catalogue`` or ``host`` for those of Wakeful, else ``other``.
        fingerprint: of everything that was declared; with another one it is deployed again.
        resources: what a replica takes, as declared: ``{"num_cpus": 1, "num_gpus": 0.5}``.
        hosted: it has an application of its own only while it is promoted.
        note: for people, though it serves: that a new version was refused.
        part_of: the function whose stage it is; empty for a function of the file.
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
class ClusterState:
    """The cluster that is up.

    Attributes:
        kind: ``own`` if ``up`` started Ray, ``joined`` if it deployed on a running cluster,
            ``node`` if this machine joined another's cluster.
        address: Ray's; empty until Ray has started.
        host: address that HTTP is served on.
        port: of HTTP.
        file: the declaration, absolute.
        serve_is_ours: whether ``up`` started Ray Serve, so that ``down`` stops it where no other
            application is on it; False until that is known.
        ports: of an own cluster.
        deployed: in file order.
        node_ip: the address that Ray listens on, of an own cluster or a node.
        cors: the pages of other origins that may call (``CorsSpec`` as plain data), if there are;
            HAProxy's wrapper reads it.
        auth: where calls need keys, what ``up`` knows of them: ``file``, of `wakeful keys`, and
            ``keys`` of the declaration, as it has them; None: calls need none. Read by HAProxy's
            program, the processes behind it and the catalogue.
        has_any_port: no port was asked for, and a free one was found: an `up` that names none
            leaves it there.
        tls: the files of TLS (``environment.TLS_FILES``); empty: HTTP is in the clear.
        per_address: connections that one address holds at once, if the file says so; HAProxy's
            program reads it.
        hard_stop_s: a HAProxy cuts its calls so long after another has replaced it; fixed when Ray
            starts.
        keep_alive_s: an idle connection of a client is kept so long; likewise.
        wire: what its processes send each other; see ``WIRE``.
    """

    kind: Literal["own", "joined", "node"]
    address: str
    host: str
    port: int
    file: str
    root: str
    models: str
    serve_is_ours: bool = False
    ports: SidePorts | None = None
    deployed: tuple[DeployedApp, ...] = ()
    node_ip: str = LOOPBACK
    hard_stop_s: int = RAYS_HARD_STOP_S
    cors: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None
    has_any_port: bool = False
    tls: str = ""
    per_address: int | None = None
    keep_alive_s: float = KEEP_ALIVE_S
    wire: int = WIRE

    @property
    def url(self) -> str:
        """Where this machine reaches the functions."""
        return ports.local_url(self.host, self.port, is_tls=bool(self.tls))

    @property
    def is_open(self) -> bool:
        """Whether there may be more machines than this one."""
        return self.kind != "own" or self.node_ip != LOOPBACK

    @property
    def owner(self) -> str:
        """The application of the placement controller; empty if there is none."""
        return next((entry.name for entry in self.deployed if entry.role == "catalogue"), "")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The name of the shared host's application, if there is one."""
        return tuple(entry.name for entry in self.deployed if entry.role == "host")

    @property
    def functions(self) -> tuple[DeployedApp, ...]:
        """The functions among what is deployed."""
        return tuple(entry for entry in self.deployed if entry.role == "function")


class StateDir:
    """The state folder of one user on this machine; there is one cluster at a time in it.

    Args:
        path: the folder; by default the user's own in the system's folder for temporary files.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_state_dir()

    def prepare(self) -> None:
        """Creates the folder, readable by its owner only, with a token in it.

        Raises:
            StateDirUnusable: it belongs to another user, or its path is too long for Ray's sockets.
        """
        if len(os.fsencode(self.path)) > MAX_PATH:
            raise StateDirUnusable(
                f"the path of the state folder, {self.path}, is too long for Ray's "
                "sockets. Set TMPDIR to a shorter one."
            )
        make_private(self.path)
        token = self.path / "token"
        if not token.exists() or not token.stat().st_size:
            self.write_token(secrets.token_hex(32).encode("ascii"))

    def write_token(self, token: bytes) -> None:
        """Replaces the token; only while no cluster is up, which has the previous one. A reader
        sees one of the two whole.

        Raises:
            StateDirUnusable: it is empty.
        """
        if not token.strip():
            raise StateDirUnusable(
                "the token is empty: any client that reaches Ray could run code. Copy the "
                "file `token` of the head's state folder."
            )
        draft = self.path / f"token.{os.getpid()}.new"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(token)
        draft.replace(self.path / "token")

    def key(self) -> bytes:
        """Its token, as the key of keyed digests (``runtime.system.secrets``)."""
        return (self.path / "token").read_bytes()

    def call_secret(self, up: ClusterState) -> str:
        """What a request to the cluster carries instead of a key; empty where none is asked for. Of
        ``secret_store``: whatever has the token may do more.
        """
        return derive_secret(self.key().decode().strip()) if up.auth is not None else ""

    def load(self) -> ClusterState | None:
        """The cluster that is up, as it was saved; None for none, and for a file that cannot be
        read. Keys of another version are ignored."""
        try:
            data: dict[str, Any] = json.loads((self.path / "up.json").read_text(encoding="utf-8"))
            ports = SidePorts(**_known(SidePorts, data["ports"])) if data.get("ports") else None
            deployed = tuple(
                DeployedApp(**_known(DeployedApp, entry)) for entry in data.get("deployed", ())
            )
            known = {"wire": 1, **_known(ClusterState, data)}  # the first form was not written
            return ClusterState(**{**known, "ports": ports, "deployed": deployed})
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    def save(self, up: ClusterState) -> None:
        """Saves it; a reader sees all of it or the previous state.

        Raises:
            StateDirUnusable: it cannot be written, for want of room, say.
        """
        self._write("up.json", json.dumps(asdict(up), indent=1))

    def save_applications(self, applications: Sequence[dict[str, Any]]) -> None:
        """Saves the deployed version of each application, to go back to when a new one fails, or
        when a function is taken down.

        Raises:
            StateDirUnusable: as of ``save``.
        """
        self._write("applications.json", json.dumps(applications))

    def _write(self, name: str, text: str) -> None:
        """Replaces a file, by a whole one or not at all."""
        draft = self.path / f"{name}.new"
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(self.path / name)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise StateDirUnusable(
                f"{self.path / name} cannot be written: {error.strerror}. Make room there, then "
                "call the command again."
            ) from error

    def load_applications(self) -> list[dict[str, Any]]:
        """The saved applications."""
        file = self.path / "applications.json"
        found: list[dict[str, Any]] = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        )
        return found

    def lacks(self) -> list[str]:
        """What this machine's HAProxy lacks, in lines for people: why, then each promise; and why
        its keys are not those of their file. Empty while it lacks nothing.
        """
        lines = list[str]()
        for name in (LACKS, KEYS_FAULT):
            with contextlib.suppress(FileNotFoundError):
                lines += (self.path / name).read_text(encoding="utf-8").splitlines()
        return lines

    def clear(self) -> None:
        """No cluster is up any more. Logs stay until the next ``up``, the copy of a private key
        does not.
        """
        for copied in self.path.glob("hap/*/*.pem*"):
            copied.unlink(missing_ok=True)
        (self.path / "up.json").unlink(missing_ok=True)

    def wipe(self) -> None:
        """Removes the files of an earlier cluster: logs, sockets, HAProxy's files, signals, pins,
        decisions and crash reports.
        """
        for folder in ("ray", "hap", "hosts", "wake_signals", "pinned", "sleeping"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        for file in (
            *self.path.glob("decisions.jsonl*"),
            self.path / LACKS,
            self.path / KEYS_FAULT,
        ):
            file.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """One command at a time starts or stops the cluster.

        Raises:
            StateDirBusy: another command has the lock.
        """
        from filelock import FileLock, Timeout  # 8 ms that most commands and processes do without

        holder = self.path / "lock.pid"
        lock = FileLock(self.path / "lock", timeout=0, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            by = holder.read_text(encoding="ascii") if holder.exists() else "unknown"
            raise StateDirBusy(
                f"another command (process {by}) starts or stops the cluster. Wait for it."
            ) from None
        try:
            with contextlib.suppress(OSError):  # `down` works on a full disk, too
                holder.write_text(str(os.getpid()), encoding="ascii")
            yield
        finally:
            lock.release()

    @property
    def inner_socket(self) -> Path | None:
        """Where this user's processes reach this machine's HAProxy in the clear; None: HAProxy ends
        no TLS.
        """
        return next(self.path.glob(f"hap/*/{INNER_SOCKET}"), None)

    @property
    def logs(self) -> Path:
        """The folder of log files of Ray's last session."""
        return self.path / "ray" / LAST_SESSION / "logs"


def hold_lock() -> None:
    """Keeps the state folder while this process lives: systemd removes files from a folder for
    temporary files after ten days without use, unless a process holds a lock on it
    (``tmpfiles.d(5)``). Only on a cluster that Wakeful started."""
    if home := os.environ.get(MARK):
        with contextlib.suppress(OSError):
            folder = os.open(home, os.O_RDONLY | os.O_CLOEXEC)  # open until the process ends
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _known(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """The keys of a saved file that this version knows."""
    names = {one.name for one in fields(kind)}
    return {key: value for key, value in data.items() if key in names}


def make_private(folder: Path) -> None:
    """Makes a folder that this user alone reads and writes, or makes one so that is there. Its name
    is known to every user of the machine, and any of them may have made it first.

    Raises:
        StateDirUnusable: it belongs to another user, is a link, or cannot be made.
    """
    try:
        if folder.is_symlink():
            raise _unusable(folder, "it is a link")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # what is opened is what is looked at, whatever the name stands for by then
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(folder, error.strerror or str(error)) from error
    try:
        if os.fstat(opened).st_uid != os.getuid():
            raise _unusable(folder, "it belongs to another user")
        os.fchmod(opened, 0o700)
    finally:
        os.close(opened)


def _unusable(folder: Path, why: str) -> StateDirUnusable:
    return StateDirUnusable(
        f"the state folder {folder} cannot be used: {why}. Remove it, or set TMPDIR to a folder of"
        " yours."
    )


def process_state_dir() -> Path:
    """The state folder for a process of a cluster: this user's own. On a cluster that `up` did not
    start no command has looked at it. Where another user has taken its name, it is a folder of this
    process alone: nothing of another user's is believed, and nothing of other processes is found.
    """
    folder = default_state_dir()
    try:
        make_private(folder)
    except StateDirUnusable as unusable:
        return _own_folder(unusable.message)
    return folder


@functools.cache
def _own_folder(why: str) -> Path:
    """Once a process."""
    logger.warning("%s Until then it is not known here what ended other processes.", why)
    return Path(tempfile.mkdtemp(prefix="wakeful-"))


def default_state_dir() -> Path:
    """This user's state folder: in ``TMPDIR``, or in ``/tmp`` where that is too long, as it is on
    macOS, or no folder to write in.

    One that is there is it, whatever can be written just now: ``tempfile.gettempdir`` tries, and
    names another folder while a disk is full, where a command finds nothing that is up.
    """
    name = f"wakeful-{os.getuid()}"
    given = (os.environ.get(variable) for variable in ("TMPDIR", "TEMP", "TMP"))
    folders = [Path(folder).absolute() for folder in given if folder]
    return next(
        (
            folder / name
            for folder in folders
            if len(os.fsencode(folder / name)) <= MAX_PATH
            and ((folder / name).is_dir() or _is_writable(folder))
        ),
        Path("/tmp") / name,
    )


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def has_separate_ingress(up: ClusterState) -> bool:
    """Whether HAProxy alone listens on the address of HTTP. Not where other machines may join,
    since it then calls replicas there; nor where Ray writes the address in another form, as IPv6,
    or starts another HAProxy than Wakeful's.
    """
    return (
        not up.is_open
        and ":" not in up.host
        and not ports.is_loopback(up.host)
        and bool(ingress_variables())
    )
