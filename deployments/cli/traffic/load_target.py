"""What ``wakeful loadtest`` loads: a server that is up, or one of its own."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deployments.cli.options import FILE, KEY_HEADERS, with_key

if TYPE_CHECKING:
    from deployments.cli.operations.foreground import SignalCounter
    from deployments.cli.traffic.load_terminal import LoadLine
    from deployments.ingress.tls.clients import ClientFiles
    from deployments.loadtest.calls.rows import GivenCall
    from deployments.loadtest.calls.served_functions import ServedFunction
    from deployments.loadtest.generator.local_server import Processes
    from deployments.loadtest.load_options import LoadOptions
    from runtime.declaration.config_file import ConfigFile


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """What is loaded.

    Attributes:
        served: its functions, by name.
        declared: the file that is served; None: it is not known.
        root: where relative paths of that begin.
        trust: with which it is asked.
        processes: of the server; None: it is elsewhere.
        options: what is asked for, with what was read for it by now.
    """

    url: str
    served: Mapping[str, ServedFunction]
    declared: ConfigFile | None
    root: Path
    trust: ClientFiles
    processes: Processes | None
    options: LoadOptions


@contextlib.contextmanager
def serving(
    file: Path | None,
    url: str | None,
    trust: ClientFiles,
    secrets: Path | None,
    options: LoadOptions,
    rows: Sequence[GivenCall],
    line: LoadLine,
    signals: SignalCounter,
) -> Iterator[LoadTarget]:
    """What is up at the URL; without one, a ``wakeful run`` of the file until the block ends."""
    from deployments.loadtest.generator.local_server import (
        processes_behind,
        processes_of,
        serve_file,
    )
    from deployments.loadtest.preparation import ask_functions, check_declared
    from runtime.declaration import config_file
    from runtime.settings import Settings

    options = replace(options, headers=with_key(options.headers))
    path = file or (None if url is not None else Path(FILE))
    root = Settings.read(secrets=secrets, file=path).root
    declared = None if path is None else config_file.read(path)
    if url is not None:
        served = ask_functions(url, options.headers, trust)
        yield LoadTarget(url, served, declared, root, trust, processes_behind(url), options)
        return
    assert declared is not None
    assert path is not None
    options = check_declared(declared, options, rows)  # the functions may take long to load
    line.say(f"serving {path}")
    more = () if secrets is None else ("--secrets", str(secrets))
    if declared.tls is not None:  # for other names than this machine's, most of the time
        trust = replace(trust, pinned=root / declared.tls.cert)
    with (
        _own_key(declared, options) as (options, variables),
        serve_file(path, more, variables, should_stop=lambda: signals.count > 0) as server,
    ):
        served = ask_functions(server.url, options.headers, trust)
        yield LoadTarget(server.url, served, declared, root, trust, processes_of(server), options)
        line.say("ending the server")


@contextlib.contextmanager
def _own_key(
    declared: ConfigFile, options: LoadOptions
) -> Iterator[tuple[LoadOptions, Mapping[str, str]]]:
    """The options, with a key that the server is given until the block ends, where the file asks
    for keys and none was given; and the variables by which the server has it.
    """
    from runtime.declaration.access.key_file import write_keys
    from runtime.declaration.access.keys import AccessKey, KeyDigest, digest_of, make_key

    if declared.auth is None or not KEY_HEADERS.isdisjoint(options.headers):
        yield options, {}
        return
    key, taken = make_key(), {one.name for one in declared.auth.keys}
    name = next(name for name in _names("loadtest") if name not in taken)
    headers = {**options.headers, "authorization": f"Bearer {key}"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "keys.json")
        scopes = frozenset({"call", "look"})
        write_keys(file, [AccessKey(name, (KeyDigest(digest_of(key)),), scopes=scopes)])
        yield replace(options, headers=headers), {"WAKEFUL_KEYS": str(file)}


def _names(first: str) -> Iterator[str]:
    yield first
    yield from (f"{first}-{number}" for number in itertools.count(2))
