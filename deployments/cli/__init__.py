"""The ``wakeful`` command. Each command is a file; what is heavy is imported by the command that needs it, so that help is quick."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from runtime.errors import DeclarationError, WakefulError

COMMANDS: Final = {
    "up": "deployments.cli.up:up",
    "down": "deployments.cli.down:down",
    "status": "deployments.cli.status:status",
    "logs": "deployments.cli.logs:logs",
    "check": "deployments.cli.check:check",
    "explain": "deployments.cli.explain:explain",
    "call": "deployments.cli.call:call",
    "run": "deployments.cli.run:run",
    "join": "deployments.cli.join:join",
    "export": "deployments.cli.export:export",
    "models": "deployments.cli.models:models",
    "scale": "deployments.cli.scale:scale",
    "env": "deployments.cli.env:env",
    "bench": "deployments.cli.bench:bench",
}
"""In the order of the help: life, declaration, use, the rest."""

WRONG_DECLARATION: Final = 2
"""Exit status of a declaration that is refused, as of a command line that is."""


class Wakeful(click.Group):
    """Finds a command's file by its name, and turns our errors into messages and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it refuses is one message and no traceback."""
        try:
            return super().invoke(ctx)
        except DeclarationError as error:
            for problem in error.problems:
                click.echo(str(problem), err=True)
            ctx.exit(WRONG_DECLARATION)
        except WakefulError as error:
            click.echo(f"wakeful: {error.message}", err=True)
            ctx.exit(1)


@click.group(cls=Wakeful, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="wakeful", message="%(version)s")
def main() -> None:
    """Functions that sleep at zero and wake in a tenth of a second.

    A function is a graph of Python stages and ONNX models, declared in a FILE and called over HTTP. Where no FILE is given it is
    serve_config.yaml in the working folder.
    """
