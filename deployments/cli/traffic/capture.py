"""``wakeful capture``: have a function's calls recorded, for a time, or say what is recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from deployments.cli.operations.wake_and_sleep import ask_repository, message_of
from deployments.cli.options import (
    FiniteRange,
    complete_function,
    echo_json,
    json_option,
    url_option,
)
from deployments.cli.traffic.server_answers import tls_options

if TYPE_CHECKING:
    from deployments.ingress.tls.clients import ClientFiles

DEFAULT_FOR_S: Final = 60.0


@click.command(short_help="Record the calls of a function.")
@click.argument("function", shell_complete=complete_function)
@click.option("--rate", type=FiniteRange(0, 1), help="Share of the calls that is recorded.")
@click.option(
    "--for",
    "for_s",
    type=FiniteRange(0, 86400, min_open=True),
    metavar="SECONDS",
    help="For how long; a minute by default, a day at most.",
)
@click.option("--off", is_flag=True, help="Record no longer than is declared.")
@json_option
@url_option
@tls_options
@click.pass_context
def capture(
    ctx: click.Context,
    function: str,
    rate: float | None,
    for_s: float | None,
    off: bool,
    as_json: bool,
    url: str | None,
    trust: ClientFiles,
) -> None:
    """Have calls of FUNCTION recorded now, to be replayed; or say what is recorded.

    `--rate 1 --for 60` records every call of a minute. Without options nothing changes. What is
    kept, for how long, and which fields never are, is declared: `capture` of the function.
    """
    if off and not (rate is None and for_s is None):
        raise click.UsageError("--off ends what --rate and --for begin; give one of the two.", ctx)
    if rate is None and for_s is not None:
        raise click.UsageError("--for goes with --rate, the share that is recorded.", ctx)
    request: dict[str, Any] = {"method": "DELETE" if off else "GET"}
    if rate is not None:
        order = {"rate": rate, "for_s": DEFAULT_FOR_S if for_s is None else for_s}
        request = {"method": "POST", "json": order}
    answer = ask_repository(function, "capture", url, trust, **request)
    if not answer.is_success:
        click.echo(f"wakeful: {message_of(answer.text)}", err=True)
        ctx.exit(1)
    status = answer.json()
    if as_json:
        echo_json(status)
    else:
        click.echo(describe_capture(function, status, time.time()))


def describe_capture(function: str, status: dict[str, Any], now: float) -> str:
    """What is recorded of a function, in words.

    Args:
        status: as of ``runtime.library.capture.control.CaptureStatus``.
        now: seconds since the epoch.
    """
    rate, until = status["rate"], status["until"]
    if not rate:
        what = f"No call of {function} is recorded"
    elif rate == 1:
        what = f"Every call of {function} is recorded"
    else:
        what = f"{rate * 100:g} % of the calls of {function} are recorded"
    if until is not None:
        what += f" for {max(0.0, until - now):.0f} s more"
        if status.get("ends_with_process"):  # an earlier version does not say
            what += ", or until its process ends or reloads"
    lost = f", {status['lost']} lost" if status["lost"] else ""
    return f"{what}; {status['calls']} so far{lost}: {status['file']}"
