"""The ``wakeful`` command: what people type, and what it prints. Called by the console script.
Each command imports what is heavy within its function, so that `--help` is quick.
May import all of ``deployments`` and ``runtime``; it imports no Ray.
"""

from __future__ import annotations

import errno
import importlib
from typing import Any, Final

import click

from runtime.errors import DeclarationError, WakefulError
from runtime.system.extras import EXTRA_OF, missing_message
from runtime.system.messages import did_you_mean
from runtime.system.peer_names import command_advice

COMMANDS: Final = {
    "new": "deployments.cli.new:new",
    "check": "deployments.cli.check:check",
    "run": "deployments.cli.run:run",
    "call": "deployments.cli.call:call",
    "status": "deployments.cli.status:status",
    "top": "deployments.cli.operations.top:top",
    "logs": "deployments.cli.logs:logs",
    "explain": "deployments.cli.check:explain",
    "add": "deployments.cli.models:add",
    "models": "deployments.cli.models:models",
    "up": "deployments.cli.operations.up:up",
    "down": "deployments.cli.operations.up:down",
    "wake": "deployments.cli.operations.wake_and_sleep:wake",
    "sleep": "deployments.cli.operations.wake_and_sleep:sleep",
    "pin": "deployments.cli.operations.wake_and_sleep:pin",
    "keys": "deployments.cli.keys:keys",
    "capture": "deployments.cli.traffic.capture:capture",
    "scale": "deployments.cli.traffic.scale:scale",
    "profile": "deployments.cli.traffic.planning:profile",
    "plan": "deployments.cli.traffic.planning:plan",
    "join": "deployments.cli.operations.join:join",
    "export": "deployments.cli.export:export",
    "schema": "deployments.cli.export:schema",
    "env": "deployments.cli.export:env",
    "completion": "deployments.cli.new:completion",
    "loadtest": "deployments.cli.traffic.loadtest:loadtest",
    "bench": "deployments.cli.traffic.bench:bench",
}
"""Commands in the order of the help, which is that of use: the first function, its models, a
cluster, the rest.
"""

WRONG_DECLARATION: Final = 2
"""Exit status of a declaration that is refused, as of a command line that is."""

NO_PATHS: Final = (errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a path at which nothing can be: one of the command line, since the
declaration's have been looked at.
"""

CLOSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Likewise, where this user may not read or write."""


class Wakeful(click.Group):
    """Imports a command when it is called, and turns our errors into messages and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            advice = command_advice(name)
            near = f"; {advice}" if advice else did_you_mean(name, COMMANDS) or "."
            raise click.UsageError(f"there is no command {name!r}{near}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; an error of ours is one message without a traceback."""
        try:
            return super().invoke(ctx)
        except DeclarationError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            ctx.exit(WRONG_DECLARATION)
        except KeyboardInterrupt:
            from deployments.cli.operations.foreground import INTERRUPTED

            click.echo("wakeful: interrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except WakefulError as error:
            click.echo(f"wakeful: {error.message}", err=True)
            ctx.exit(1)
        except OSError as error:
            if error.errno not in (*NO_PATHS, *CLOSED) or not error.filename:
                raise
            click.echo(f"wakeful: {error.filename}: {error.strerror}.", err=True)
            ctx.exit(WRONG_DECLARATION if error.errno in NO_PATHS else 1)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRA_OF:
                raise
            needs = missing_message(error.name or "", f"`wakeful {ctx.invoked_subcommand}`")
            click.echo(f"wakeful: {needs}", err=True)
            ctx.exit(1)


@click.group(
    cls=Wakeful, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="wakeful", message="%(version)s")
def main() -> None:
    """Functions that sleep at zero and wake in a tenth of a second.

    A function is a graph of Python stages and ONNX models, declared in a FILE and called over HTTP.
    Where no FILE is given it is serve_config.yaml in the working folder.

    Exit status: 0 success; 1 it failed; 2 the command line or the declaration is wrong; 130
    interrupted before its end.
    """
