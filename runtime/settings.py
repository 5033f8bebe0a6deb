"""What the machine decides, not the declaration: the only reader of the environment."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from runtime.errors import DeclarationError, Problem
from runtime.system.cores import MAX_PROCESSES
from runtime.system.memory import free_bytes
from runtime.system.messages import closest_match, quote
from runtime.system.secrets import Secrets, read_secrets
from runtime.system.setting_values import (
    LOG_LEVELS,
    read_address,
    read_existing_folder,
    read_factor,
    read_file,
    read_folder,
    read_functions,
    read_hosts,
    read_log_level,
    read_megabytes,
    read_path,
    read_port,
    read_spares,
    read_workers,
)
from runtime.system.telemetry.trace import Sampler, make_sampler

PREFIX: Final = "WAKEFUL_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, as its reference page describes it.

    Attributes:
        wanted: what its value is, in words.
        default: what holds without it, in words.
        reason: what it is for, and why the default is what it is.
        read: text to value; raises ``ValueError`` for a wrong one.
    """

    wanted: str
    default: str
    reason: str
    read: Callable[[str], Any]


SETTINGS: Final[Mapping[str, Setting]] = {
    "root": Setting(
        "a folder that exists",
        "the folder of the file",
        "Where the relative paths of declarations start. The folder of the file, so that a file"
        " says the same wherever a command is called. Without a file: the working folder.",
        read_existing_folder,
    ),
    "models": Setting(
        "a folder",
        "`models` in the root folder",
        "Where `wakeful models pull` puts models and the runtime finds them. Beside the"
        " declarations, so that one folder can be moved.",
        read_folder,
    ),
    "host": Setting(
        "an address",
        "`http_options.host` of the file",
        "Address listened on, over the file's, for a machine whose address the file cannot know.",
        read_address,
    ),
    "port": Setting(
        "an integer from 1 to 65535",
        "`http_options.port` of the file",
        "Port listened on, over the file's, for a machine on which that is taken.",
        read_port,
    ),
    "cpus_per_core": Setting(
        "a number above 0",
        "4",
        "Logical CPUs that `wakeful up` gives Ray for each core of this machine. 4: a few functions"
        " that are awake at once share the cores, and none waits for another to sleep. On a cluster"
        " the nodes' own numbers hold.",
        read_factor,
    ),
    "workers": Setting(
        f"an integer from 1 to {MAX_PROCESSES}",
        "1",
        "Processes of `wakeful run`, behind one port (`--workers`). 1: a model computes outside of"
        " Python's lock, and one process has the memory of one; more are for stages that compute in"
        " Python.",
        read_workers,
    ),
    "memory_mb": Setting(
        "an integer above 0",
        "half of the memory that is free at the start",
        "Megabytes that the functions loaded in one process (the shared host, `wakeful run`) may "
        "hold together, each of several (`WAKEFUL_HOSTS`, `--workers`) its part; the function that "
        "has been idle longest yields to the one that is called. "
        "Weights mapped from files do not count. Half: the rest is for batches larger than at "
        "warm-up, and for functions with a deployment of their own.",
        read_megabytes,
    ),
    "probe_timeout_s": Setting(
        "a number of seconds above 0",
        "120",
        "How long one function may take to load when `wakeful up` probes it. 120: a large model"
        " from a slow disk, and nothing that hangs keeps `up` for longer than one is willing to"
        " look at it.",
        read_factor,
    ),
    "probe_memory_mb": Setting(
        "an integer above 0",
        "the memory that is free at the start",
        "Megabytes of memory of its own that a function may take while `wakeful up` probes it;"
        " above, it is ended and refused. What is free: a function that needs more would end others"
        " with it.",
        read_megabytes,
    ),
    "gpu_memory_mb": Setting(
        "an integer above 0",
        "what the NVIDIA driver says",
        "Megabytes of each GPU, for a machine whose driver does not say, or that only plans for"
        " others: by it shares become limits, and `up` refuses what no share holds. Without either"
        " nothing is limited.",
        read_megabytes,
    ),
    "hosts": Setting(
        "an integer from 1 to 16",
        "2 on 4 cores and 8 GB of free memory or more, else 1",
        "Processes of the shared host that `wakeful up` starts; a sleeping function belongs to one"
        " of them. Two, where there is room: while one is being replaced, the other answers.",
        read_hosts,
    ),
    "promote_work": Setting(
        "a number of cores above 0",
        "0.8",
        "Cores of work, over four seconds, that earn a function of `tier: auto` a deployment of its"
        " own. 0.8: it then takes most of a core of the shared host from others. A very large"
        " number keeps everything in the host.",
        read_factor,
    ),
    "drain_s": Setting(
        "a number of seconds above 0",
        "the longest `request_timeout_s` of what is served",
        "How long calls in flight may take once the end was asked for (SIGTERM, `wakeful down`);"
        " what is not answered by then is refused. The default leaves each call its own deadline; a"
        " supervisor that kills sooner wants less: the process ends within 2 s more.",
        read_factor,
    ),
    "spare_processes": Setting(
        "an integer from 0 to 16",
        "1",
        "Processes that `wakeful up` keeps started, on each node, for replicas to come: a"
        " deployment of a function's own then answers a second sooner. 1: about 110 MB of memory"
        " for the first replica of a burst; the next start meanwhile.",
        read_spares,
    ),
    "metrics_functions": Setting(
        "an integer above 0",
        "200",
        "Functions of one process up to which each has histograms of its own on `/metrics`; where"
        " more have been called, the histograms are of all of them together, and counts stay by"
        " function. 200: about a hundred series each are what a Prometheus takes without thought.",
        read_functions,
    ),
    "access_log": Setting(
        "a file, or `-` for standard output",
        "no access log",
        "A line of JSON for each call of a function, for `run` and `up`; a relative path starts at"
        " the root folder. All processes of a machine append to one file. Off: most put one in"
        " front of Wakeful, or read metrics.",
        read_file,
    ),
    "log_level": Setting(
        f"one of {', '.join(LOG_LEVELS)}",
        "WARNING; INFO under `run --reload`",
        "The level from which on what stages log is shown ([logging](logging.md)). WARNING is"
        " Python's own default; while a function is written, its INFO is what one looks for.",
        read_log_level,
    ),
    "access_log_mb": Setting(
        "an integer above 0",
        "100",
        "Megabytes of the access log after which it is renamed to `NAME.1`, in place of the one"
        " before. 100: some 400,000 calls, and 200 MB of disk at most.",
        read_megabytes,
    ),
    "captures": Setting(
        "a folder",
        "a folder of the project's own below `~/.local/state/wakeful/captures`",
        "Where recorded calls lie, a file for each function that is captured"
        " ([capture](capture.md)), readable by this user alone. Not beside the declarations: what"
        " clients sent is not to be committed, copied or watched with them.",
        read_folder,
    ),
    "keys": Setting(
        "a file",
        "`http.auth.file` of the file, else `~/.local/state/wakeful/keys.json`",
        "The file of `wakeful keys` ([keys](keys.md)), for `keys`, `run` and `up`; over the file's,"
        " for a machine that is given its keys as a mounted secret. The default is a folder that"
        " outlives a restart of the machine.",
        read_path,
    ),
}
"""Every setting by its field of ``Settings``."""

VARIABLES: Final[Mapping[str, str]] = {
    f"{PREFIX}{'LOGICAL_CPUS_PER_CORE' if field == 'cpus_per_core' else field.upper()}": field
    for field in SETTINGS
}
"""Field by environment variable."""

CLIENT_KEY: Final = f"{PREFIX}KEY"
"""The variable with the API key that commands and clients send. It is no setting: what settings are
printed, and sent to other processes, it is not among.
"""


def client_key(environ: Mapping[str, str] | None = None) -> str:
    """The API key that commands and clients send; empty: none."""
    environ = os.environ if environ is None else environ
    return environ.get(CLIENT_KEY, "").strip()


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of this process; read once, at the top, and passed on.

    Attributes:
        root: absolute folder that relative paths of declarations start from.
        models: absolute folder of pulled models.
        host: address listened on; None leaves it to the file.
        port: port listened on; None leaves it to the file.
        cpus_per_core: logical CPUs for each core of this machine.
        workers: processes of a run.
        memory_mb: megabytes that functions of one process may hold together; None: half of what is
            free at the start.
        probe_timeout_s: seconds that a function may take to load in its probe.
        probe_memory_mb: megabytes that it may take in its probe; None: what is free at the start.
        gpu_memory_mb: megabytes of each GPU; None: what the driver says.
        hosts: processes of the shared host; None: by the machine.
        promote_work: cores of work that earn a deployment of its own.
        drain_s: seconds that calls in flight may take at the end; infinite: until their own
            deadlines.
        spare_processes: processes kept started for replicas to come.
        metrics_functions: functions of one process up to which each has histograms of its own.
        access_log: the file of the access log; ``-`` is standard output; None: there is none.
        access_log_mb: megabytes of it after which it is renamed.
        log_level: from which on what stages log is shown; None: by the command.
        captures: folder of recorded calls.
        keys: the file of keys, absolute, where the declaration names no other.
        trace_sampler: decides which calls are recorded in traces (``OTEL_*``); None: there are no
            traces.
        trace_delay_s: seconds that spans are gathered before they are sent.
        given: fields that the environment set, to show where a value comes from.
        secrets: what declarations name as ``${NAME}``, and do not hold.
    """

    root: Path
    models: Path
    host: str | None = None
    port: int | None = None
    cpus_per_core: float = 4.0
    workers: int = 1
    memory_mb: int | None = None
    probe_timeout_s: float = 120.0
    probe_memory_mb: int | None = None
    gpu_memory_mb: int | None = None
    hosts: int | None = None
    promote_work: float = 0.8
    drain_s: float = math.inf
    spare_processes: int = 1
    metrics_functions: int = 200
    access_log: Path | None = None
    access_log_mb: int = 100
    log_level: str | None = None
    captures: Path = Path("captures")
    keys: Path = Path("keys.json")
    trace_sampler: Sampler | None = field(default=None, compare=False)
    trace_delay_s: float = 5.0
    given: frozenset[str] = frozenset()
    secrets: Secrets = field(default_factory=Secrets, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str] | None = None,
        secrets: Path | None = None,
        file: Path | None = None,
    ) -> Settings:
        """The settings of an environment, by default this process's.

        Args:
            file: the declaration, in whose folder its relative paths start unless the environment
                says otherwise; None: in the working folder.
            secrets: a file of values for ``${NAME}``; what is not in it is taken from the
                environment.

        Raises:
            DeclarationError: with every variable that is unknown or has a wrong value, or with what
                is wrong with the file.
        """
        environ = os.environ if environ is None else environ
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for variable in sorted(name for name in environ if name.startswith(PREFIX)):
            if variable == CLIENT_KEY or is_service_link(variable, environ[variable]):
                continue
            field = VARIABLES.get(variable)
            if field is None:
                problems.append(Problem("environment", 0, variable, _unknown(variable)))
                continue
            try:
                values[field] = SETTINGS[field].read(environ[variable])
            except ValueError:
                message = (
                    f"{quote(environ[variable])} is given, {SETTINGS[field].wanted} is wanted."
                )
                problems.append(Problem("environment", 0, variable, message))
        try:
            trace_sampler = read_trace_sampler(environ)
            trace_delay_s = read_trace_delay_s(environ)
        except ValueError as error:
            problems.append(Problem("environment", 0, "OTEL_*", f"{error}."))
        if problems:
            raise DeclarationError(problems)
        root = values.get("root", folder_of(file) if file else Path.cwd())
        if values.get("access_log", Path("-")) != Path("-"):
            values["access_log"] = root / values["access_log"]
        named = environ if secrets is None else ChainMap(read_secrets(secrets), dict(environ))
        return cls(
            **{
                "root": root,
                "models": root / "models",
                "captures": captures_folder(root, environ),
                "keys": state_home(environ) / "keys.json",
                **values,
            },
            trace_sampler=trace_sampler,
            trace_delay_s=trace_delay_s,
            given=frozenset(values),
            secrets=Secrets(named),
        )


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """An MLflow server, by the variables that its own client reads.

    Attributes:
        url: ``MLFLOW_TRACKING_URI``; empty: there is none.
    """

    url: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> MlflowServer:
        """From an environment, by default this process's."""
        environ = os.environ if environ is None else environ
        return cls(
            *(
                environ.get(f"MLFLOW_TRACKING_{name}", "").strip()
                for name in ("URI", "USERNAME", "PASSWORD", "TOKEN")
            )
        )


def password_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """The user's passwords of hosts, as curl and git read them: ``NETRC``, or ``~/.netrc``; None:
    there is none.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("NETRC") or "~/.netrc").expanduser()
    return path if path.is_file() else None


def folder_of(file: Path) -> Path:
    """The absolute folder of a file. A link is not followed: what a mounted file names lies beside
    the link (a ConfigMap's file is one).
    """
    return Path(os.path.abspath(file)).parent  # noqa: PTH100 (resolve() follows links)


def state_home(environ: Mapping[str, str]) -> Path:
    """Where Wakeful keeps what outlives its processes, among what programs keep of a user
    (``XDG_STATE_HOME``).
    """
    given = environ.get("XDG_STATE_HOME", "")
    home = Path(given) if given.startswith("/") else Path(environ.get("HOME", "/")) / ".local/state"
    return home / "wakeful"


def captures_folder(root: Path, environ: Mapping[str, str]) -> Path:
    """Where the recorded calls of a project lie, by the name of the project's folder and a hash of
    where it is.
    """
    mark = hashlib.blake2b(os.fsencode(root), digest_size=4).hexdigest()
    return state_home(environ) / "captures" / f"{root.name}-{mark}"


_SERVICE_LINK: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?", re.ASCII
)


def is_service_link(variable: str, value: str) -> bool:
    """Whether Kubernetes has set a variable to say where a Service is: one whose name begins with
    ``wakeful`` brings eight to each pod, ``WAKEFUL_PORT=tcp://10.0.0.1:80`` among them
    (``enableServiceLinks``).
    """
    is_address = re.match(r"(tcp|udp|sctp)://", value) is not None
    return bool(_SERVICE_LINK.fullmatch(variable)) or (variable.endswith("_PORT") and is_address)


def read_trace_sampler(environ: Mapping[str, str]) -> Sampler | None:
    """The sampler that the variables of OpenTelemetry ask for; None where they ask for no traces.

    Raises:
        ValueError: they ask for what there is not.
    """
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    is_asked = exporter == "otlp" or (not exporter and any(environ.get(one) for one in endpoints))
    if exporter not in ("", "otlp", "none"):
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter} is given, otlp or none is wanted")
    if not is_asked or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(variable, "").strip()
        if protocol not in ("", "http/protobuf"):
            raise ValueError(f"{variable}={protocol} is given, http/protobuf is wanted")
        if protocol:  # that of traces goes before that of everything
            break
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
    argument = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip()
    try:
        return make_sampler(name, argument)
    except ValueError as error:
        given = (
            f"OTEL_TRACES_SAMPLER={name}{argument and f' with OTEL_TRACES_SAMPLER_ARG={argument}'}"
        )
        raise ValueError(f"{given} is given, {error}") from None


def read_trace_delay_s(environ: Mapping[str, str]) -> float:
    """Seconds that spans are gathered before they are sent together. By default five, as of
    OpenTelemetry's SDK: a request to the collector costs 2 ms, which ten a second take from calls.

    Raises:
        ValueError: ``OTEL_BSP_SCHEDULE_DELAY`` is no number of milliseconds.
    """
    given = environ.get("OTEL_BSP_SCHEDULE_DELAY", "").strip() or "5000"
    if not (given.isdecimal() and int(given)):
        raise ValueError(f"OTEL_BSP_SCHEDULE_DELAY={given} is given, milliseconds are wanted")
    return int(given) / 1000


def _unknown(variable: str) -> str:
    """Compared without the prefix, which would make every two of them alike."""
    rest = {name.removeprefix(PREFIX): name for name in (*VARIABLES, CLIENT_KEY)}
    meant = closest_match(variable.removeprefix(PREFIX), rest)
    return (
        f"unknown variable, did you mean {rest[meant]}?"
        if meant
        else f"unknown variable; known are {', '.join(VARIABLES)}."
    )


def budget_bytes(settings: Settings) -> int:
    """What loaded functions may hold together: ``memory_mb``, or half of what is free now."""
    return settings.memory_mb * 1_000_000 if settings.memory_mb is not None else free_bytes() // 2
