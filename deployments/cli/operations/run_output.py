"""What ``wakeful run`` prints: text for people, or a line of JSON for each event."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from deployments.cli.options import LISTED, curl_example
from runtime.errors import DeclarationError, WakefulError

if TYPE_CHECKING:
    from runtime.declaration.function_spec import FunctionSpec
    from runtime.graph.resolve import ResolvedConfig
    from runtime.library.library import EntryState


class RunOutput:
    """Prints what a run does: text for people, or a line of JSON for each event. Then what stages
    print goes to standard error.

    Attributes:
        has_keys: calls need keys; set once that is known.
    """

    def __init__(self, as_json: bool) -> None:
        self.has_keys = False
        self._as_json = as_json
        self._events = sys.stdout

    def redirect(self) -> AbstractContextManager[object]:
        """Within, standard output is for events alone."""
        return redirect_stdout(sys.stderr) if self._as_json else nullcontext()

    def say(self, event: str, text: str, *, is_fault: bool = False, **fields: Any) -> None:
        """Print an event.

        Args:
            text: for people; a fault goes to standard error.
            fields: of the JSON, beside ``event``; without any, it has the ``message``.
        """
        if self._as_json:
            line = json.dumps({"event": event, **(fields or {"message": text})})
            click.echo(line, file=self._events)
        else:
            click.echo(text, err=is_fault)

    def on_loading(self, config: ResolvedConfig) -> None:
        """The file is right, and its functions are loaded."""
        self.say("loading", f"loading {_count(config)}.")

    def on_error(self, error: WakefulError) -> int:
        """Print what is wrong as every command does; return the exit status that it has."""
        if isinstance(error, DeclarationError):
            for problem in error.problems:
                click.echo(str(problem), err=True)
            return 2
        click.echo(f"wakeful: {error.message}", err=True)
        return 1

    def on_loaded(self, name: str, state: EntryState) -> None:
        """A function was loaded, or left asleep; of one that failed, the log has said why."""
        if state.state != "failed" or self._as_json:
            after = f" in {state.load_s:.2f} s" if state.load_s else ""
            reason = f": {state.reason}" if state.reason else ""
            self.say(
                "function",
                f"{name} is {state.state}{after}{reason}",
                is_fault=bool(state.reason),
                name=name,
                state=state.state,
                load_s=round(state.load_s, 3),
                reason=state.reason,
            )

    def on_serving(self, url: str, config: ResolvedConfig) -> None:
        """The port is open: where, and a line that calls each function."""
        if self._as_json:
            urls = {spec.name: url + spec.route_prefix for spec in config.functions}
            self.say("serving", "", url=url, functions=urls)
            return
        click.echo(f"serving on {url}; Ctrl-C drains and ends it.")
        for spec in config.functions[:LISTED]:
            self.on_called(spec.name, call_line(spec, config, url, has_key=self.has_keys))
        if (more := len(config.functions) - LISTED) > 0:
            click.echo(f"\nand {more} more; `wakeful status` lists them.")
        if not self.has_keys and all(spec.route_prefix != "/" for spec in config.functions):
            page = "console" if config.file.has_console else "docs"
            click.echo(f"\n{url}/{page} in a browser shows what is served, and tries it.")

    def on_called(self, name: str, line: str) -> None:
        """How a function is called, for people."""
        if not self._as_json:
            click.echo(f"\n{name}\n  {line}")


def call_line(spec: FunctionSpec, config: ResolvedConfig, url: str, *, has_key: bool) -> str:
    """A line that calls a function, served at a URL.

    Args:
        has_key: calls need one.
    """
    assembly, address = config.assemblies.get(spec.name), url + spec.route_prefix
    return curl_example(spec, assembly, address, config.file.tls, has_key=has_key)


def _count(config: ResolvedConfig) -> str:
    count = len(config.functions)
    return f"{count} function{'' if count == 1 else 's'}"
