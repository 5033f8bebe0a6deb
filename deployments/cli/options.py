"""Options, arguments and helpers that several commands share."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runtime.errors import NotFound
from runtime.system.messages import did_you_mean

if TYPE_CHECKING:
    from runtime.declaration.access.key_table import KeyTable
    from runtime.declaration.config_file import ConfigFile
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.declaration.http_section import AuthSpec, TlsSpec
    from runtime.errors import Problem
    from runtime.graph.assembly import Assembly
    from runtime.graph.resolve import ResolvedConfig
    from runtime.settings import Settings

FILE: Final = "serve_config.yaml"

file_argument = click.argument("file", type=click.Path(path_type=Path), default=FILE)

secrets_option = click.option(
    "--secrets",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="NAME=value lines for what stages name as ${NAME} in `with`; before the environment.",
)

port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to serve on, 0 for a free one, which is printed, and which updates keep; before "
    "WAKEFUL_PORT, that before the file's.",
)


class FiniteRange(click.FloatRange):
    """A range of numbers; click's own lets NaN through, and infinity where it has no upper end."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A number in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is given, a finite number is wanted.", param, ctx)
        return number


KEY_HEADERS: Final = frozenset({"authorization", "x-api-key"})
"""In one of them a client sends its key; names in lower case."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def check_url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuses what has no scheme, and a password: a URL is printed, and kept in reports."""
    if value is None:
        return None
    authority = re.split(r"[/?#]", value.partition("://")[2] or value, maxsplit=1)[0]
    if "@" in authority:
        way = "--header 'authorization: Basic …'"
        if all(option.name != "headers" for option in ctx.command.params):
            way = "WAKEFUL_KEY, a key"
        raise click.BadParameter(
            f"a user or a password stands in it, and a URL is printed and kept. Give it by {way}."
        )
    if not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} has no scheme. Write 'http://{value}'.")
    return value.rstrip("/")


url_option = click.option(
    "--url",
    callback=check_url,
    help="Where Wakeful is served, such as http://127.0.0.1:8000; by default what is up on this "
    "machine.",
)


def header_option(words: str) -> Callable[[Any], Any]:
    """``--header NAME:VALUE``, which may be repeated: a mapping, names in lower case."""
    return click.option(
        "--header",
        "-H",
        "headers",
        multiple=True,
        callback=_read_headers,
        metavar="NAME:VALUE",
        help=words,
    )


def with_key(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, and the key of the environment (WAKEFUL_KEY) where none of them is a key."""
    from runtime.settings import CLIENT_KEY, client_key

    key = client_key()
    if not key or not KEY_HEADERS.isdisjoint(headers):
        return dict(headers)
    if not (key.isascii() and key.isprintable()):
        raise click.UsageError(f"{CLIENT_KEY} is not a key: a header cannot have its characters.")
    return {**headers, "authorization": f"Bearer {key}"}


def _read_headers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    return dict(map(_read_header, values))


def _read_header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if (
        not colon
        or not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name.strip())
        or not (value.isascii() and value.isprintable())
    ):
        raise click.BadParameter(f"{text!r} is not NAME:VALUE.", param_hint="--header")
    return name.strip().lower(), value.strip()


def check_address(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuses what is not HOST:PORT, of which Ray says so only after it has been started."""
    if value is not None and not re.fullmatch(r".+:\d{1,5}", value):
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 10.0.0.1:6379.")
    return value


NAMES_IN_LINE: Final = 10
"""Functions that one line names."""


def join_names(names: Sequence[str]) -> str:
    """The names in a line, the first ten of them: ``embed, ocr and 3 more``."""
    more = f" and {len(names) - NAMES_IN_LINE} more" if len(names) > NAMES_IN_LINE else ""
    return f"{', '.join(names[:NAMES_IN_LINE])}{more}"


def untried_line(names: Sequence[str]) -> str:
    """The line about functions of which no answer is computed before they are ready
    (``FunctionSpec.is_tried``).
    """
    return (
        f"no answer is tried before the first call: {join_names(names)}. Declare an 'example:' to "
        "have it tried."
    )


def complete_function(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The functions that serve here, for a shell that completes; whatever is wrong, none."""
    try:
        names = served_names()
    except Exception:  # a traceback would end up on the command line
        return []
    return [name for name in names if name.startswith(incomplete)]


def served_names(*, with_stages: bool = False) -> list[str]:
    """The functions that are up here, or in a run; Ray is not asked.

    Args:
        with_stages: also stages with a deployment of their own.
    """
    from deployments.local.runs import live_runs, run_functions
    from deployments.ray_support.state_dir import StateDir

    state_dir = StateDir()
    up = state_dir.load()
    declared = up.functions if up else ()
    names = {entry.name for entry in declared if with_stages or not entry.part_of}
    for run in live_runs(state_dir):
        names |= {entry["name"] for entry in run_functions(run, state_dir)}
    return sorted(names)


def finite(value: Any) -> Any:
    """Plain data, with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return finite(value._asdict())
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def echo_json(data: Any) -> None:
    """Plain data on standard output."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def echo_line(data: Any) -> None:
    """Plain data on standard output, as one line of many."""
    click.echo(json.dumps(data, ensure_ascii=False))


insecure_option = click.option(
    "--insecure",
    is_flag=True,
    help="Ask for no keys though other machines reach the address, where something else keeps "
    "strangers out.",
)


def key_file_of(auth: AuthSpec | None, settings: Settings) -> Path:
    """The file of keys, absolute. The environment goes before the file, that before the default.

    Args:
        auth: of the file; None: it has none.
    """
    if auth is None or auth.file is None or "keys" in settings.given:
        return settings.keys
    return settings.root / auth.file


def key_table_of(auth: AuthSpec | None, settings: Settings) -> KeyTable:
    """The keys that a file declares, and its file of keys; not read yet.

    Args:
        auth: of the file; None: it has none.
    """
    from runtime.declaration.access.key_table import KeyTable
    from runtime.declaration.access.keys import AccessKey

    declared = () if auth is None else tuple(map(AccessKey.of, auth.keys))
    return KeyTable(declared, key_file_of(auth, settings))


def keys_asked_for(
    auth: AuthSpec | None, settings: Settings, host: str, *, is_insecure: bool
) -> KeyTable | None:
    """The keys that calls need, as far as the file, the flag and the address listened on say; None:
    they need none. Where that is since `--insecure` says so, a line says it, too.

    Args:
        auth: of the file; None: it has none.
        host: address listened on.

    Raises:
        OpenToStrangers: other machines would reach the address, and it was not asked for.
        DeclarationError: the file of keys cannot be read or trusted.
    """
    from deployments.ray_support.ports import is_loopback
    from runtime.declaration.access.asked import asks_for_keys

    table = key_table_of(auth, settings)
    is_local = is_loopback(host)
    is_open = is_local or is_insecure
    has_keys = bool(table.read()) if auth is not None or not is_open else False
    if auth is not None and not has_keys:
        click.echo(
            f"warning: there are no keys in {table.path}, and calls need one: `wakeful keys add"
            " NAME` makes it.",
            err=True,
        )
    is_asked = asks_for_keys(
        host,
        is_declared=auth is not None,
        is_loopback=is_local,
        has_keys=has_keys,
        is_insecure=is_insecure,
    )
    if is_insecure and not is_local:
        click.echo(f"warning: whatever reaches {host} may call: --insecure.", err=True)
    return table if is_asked else None


def read(file: Path, settings: Settings) -> ConfigFile:
    """A file that declares functions. Its stages can be imported afterwards, as in a replica.

    Raises:
        DeclarationError: with everything that is wrong.
    """
    from deployments.ray_support.environment import import_folders
    from runtime.declaration import config_file

    declared = config_file.read(file)
    sys.path[:0] = [folder for folder in import_folders(settings, file) if folder not in sys.path]
    return declared


def resolve_for_cluster(file: Path, settings: Settings) -> ResolvedConfig:
    """A file that is right in all that can be known before something starts, with a function for
    each stage that has a deployment of its own.

    Raises:
        DeclarationError: with everything that is wrong.
    """
    from deployments.ingress.tls.files import find_problems
    from deployments.ray_support.environment import import_folders
    from deployments.rollout.project_folder import (
        missing_build,
        shadowing_modules,
        shadowing_packages,
    )
    from deployments.rollout.unapplied_keys import unappliable_problems
    from runtime.graph.resolve import resolve

    declared = read(file, settings)
    folders = [Path(folder) for folder in import_folders(settings, file)]
    wrong, doubtful = find_problems(declared, settings.root, time.time())
    for warning in doubtful:
        click.echo(f"warning: {warning}", err=True)
    others = [
        *wrong,
        *unappliable_problems(declared),
        *missing_build(declared),
        *shadowing_modules(folders),
        *shadowing_packages(folders),
    ]
    return resolve(declared, settings, split=True, other_problems=others)


def hidden_packages(file: Path, settings: Settings) -> list[Problem]:
    """Modules of the project with the names of Wakeful's packages, or of modules that are
    installed: a warning where one process serves, which may never import them.
    """
    from deployments.ray_support.environment import import_folders
    from deployments.rollout.project_folder import doubled_modules, shadowing_packages

    folders = [Path(folder) for folder in import_folders(settings, file)]
    return [*shadowing_packages(folders), *doubled_modules(folders)]


NEEDED_BY_REPORT: Final = ("matplotlib", "jinja2")
"""Of the extra ``[load]``, what an HTML page is drawn by."""


def require_module(name: str) -> None:
    """See that a module of an extra is installed, before anything begins.

    Raises:
        ModuleNotFoundError: it is not; the command prints the line that installs it.
    """
    from runtime.system.extras import is_installed

    if not is_installed(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def pick(name: str, known: list[str]) -> str:
    """The name, if it is known.

    Raises:
        NotFound: with the nearest known name.
    """
    if name not in known:
        others = ", ".join(known) or "none"
        raise NotFound(
            f"there is no function {name!r}{did_you_mean(name, known) or f'; there are: {others}.'}"
        )
    return name


class FunctionPlace(NamedTuple):
    """Where a function is called.

    Attributes:
        url: of its server.
        prefix: the function's.
        headers: that requests carry: for a server of this user's that asks for keys, what lets its
            user in.
        inner: the socket at which this user's commands reach a server of its own that speaks TLS;
            None: it speaks none, or is another's.
    """

    url: str
    prefix: str
    headers: Mapping[str, str]
    inner: Path | None = None


def locate(function: str) -> FunctionPlace:
    """Where a function is that is up here, or in a run; Ray is not asked.

    Raises:
        NotFound: there is none of that name.
    """
    from deployments.local.runs import inner_socket, live_runs, run_functions
    from deployments.ray_support.state_dir import StateDir

    state_dir = StateDir()
    up, runs = state_dir.load(), live_runs(state_dir)
    if up is None and not runs:
        raise NotFound(
            "nothing is up here. `wakeful run` or `wakeful up` serves a file; what another machine "
            "serves is called with `--url`."
        )
    found: dict[str, FunctionPlace] = {}
    if up is not None:
        headers, inner = _own_headers(state_dir.call_secret(up)), state_dir.inner_socket
        found = {
            entry.name: FunctionPlace(up.url, entry.route_prefix, headers, inner)
            for entry in up.functions
            if not entry.part_of
        }
    if function not in found:
        for run in runs:
            headers = _own_headers(run.secret)
            found = {
                entry["name"]: FunctionPlace(
                    run.url,
                    entry["url"].removeprefix(run.url),
                    headers,
                    inner_socket(state_dir, run),
                )
                for entry in run_functions(run, state_dir)
            } | found
    return found[pick(function, list(found))]


def _own_headers(secret: str) -> dict[str, str]:
    from deployments.ingress.haproxy.rules import SECRET

    return {SECRET: secret} if secret else {}


def place_of(function: str, url: str | None) -> FunctionPlace:
    """Where an operator reaches the server of a function: at a URL, with the key of the
    environment, or on this machine, as the server's user.

    Raises:
        NotFound: as of ``locate``.
    """
    return locate(function) if url is None else FunctionPlace(url, "", with_key({}))


LISTED: Final = 20
"""Functions that are printed one by one."""

KEY_OF_CURL: Final = '-H "authorization: Bearer $WAKEFUL_KEY"'
"""What a line of curl has where calls need a key."""

LONGEST_EXAMPLE: Final = 64 << 10
"""Bytes of an example's files that are read for a line; one that sends the files needs none."""


def curl_example(
    spec: FunctionSpec,
    assembly: Assembly | None,
    url: str,
    tls: TlsSpec | None = None,
    *,
    has_key: bool = False,
) -> str:
    """A curl line that calls the function with an example, or asks for its metadata where no
    example fits in a line.

    Args:
        url: the function's, as this machine reaches it.
        tls: of the file.
        has_key: calls need a key, which the line has from WAKEFUL_KEY.
    """
    from deployments.ingress.tls.clients import curl_address
    from deployments.ingress.tls.files import TlsFiles
    from runtime.graph.description.interface_schemas import describe_call
    from runtime.graph.requests.curl_lines import CallForm
    from runtime.graph.requests.shown_rows import example_request

    form = describe_call(assembly) if assembly is not None else None
    if form is None:
        form = CallForm({}, is_of_sequence=spec.sequences is not None)
    row = example_request(spec, assembly, LONGEST_EXAMPLE)
    root = Path(os.path.relpath(assembly.root)) if assembly is not None else Path()
    if (files := TlsFiles.of(tls, root.absolute())) is not None:
        url = curl_address(url, files)
    line = form.line(url, row, spec.example, root)
    return line.replace("curl ", f"curl {KEY_OF_CURL} ", 1) if has_key else line
