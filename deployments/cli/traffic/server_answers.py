"""What a server answers to a command, wherever it is: by the address that is named, with TLS, or by
the socket at which this user's own is reached.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import httpx

    from deployments.ingress.tls.clients import ClientFiles


def tls_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--cacert`` and ``--cert``, which come to one argument ``trust``: the files with which the
    server of an ``https`` address is asked.
    """
    cacert = click.option(
        "--cacert",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Authorities in PEM that the server's certificate is of, as curl has it; by default "
        "SSL_CERT_FILE, or those of this machine.",
    )
    cert = click.option(
        "--cert",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The client's own certificate with its key, in PEM, for a server that asks for one.",
    )

    @functools.wraps(command)
    def with_trust(*args: Any, cacert: Path | None, cert: Path | None, **options: Any) -> Any:
        from deployments.ingress.tls.clients import ClientFiles, ClientFilesRefused

        trust = ClientFiles(cacert, cert)
        try:
            trust.context()
        except ClientFilesRefused as refused:
            raise click.UsageError(str(refused)) from None
        return command(*args, trust=trust, **options)

    return cacert(cert(with_trust))


def ask_server(
    target: str,
    *,
    method: str = "POST",
    timeout_s: float,
    is_local: bool,
    inner: Path | None = None,
    trust: ClientFiles,
    show: Callable[[str], object] | None = None,
    **request: Any,
) -> httpx.Response:
    """What a server answers. One of this machine is asked directly: a proxy of the environment
    (``http_proxy``) would look for it on its own.

    Args:
        inner: as of ``FunctionPlace``.
        trust: as of ``tls_options``.
        show: gets the text of an answer that ``is_streamed``, as it comes; it is not kept.

    Raises:
        ClickException: it answers nothing, or its answer breaks off.
    """
    import httpx

    has_begun = False
    try:
        with contextlib.ExitStack() as stack:
            ask: Callable[..., AbstractContextManager[httpx.Response]] = httpx.stream
            at, options = target, {"timeout": timeout_s, **request}
            if inner is None:
                options |= {"trust_env": not is_local, "verify": trust.context() or True}
            else:
                transport = httpx.HTTPTransport(uds=str(inner))
                ask = stack.enter_context(httpx.Client(transport=transport)).stream
                at = target.replace("https://", "http://", 1)
            answer = stack.enter_context(ask(method, at, **options))
            has_begun = True
            if show is None or not is_streamed(answer):
                answer.read()
            else:
                for text in answer.iter_text():
                    show(text)
            return answer
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if has_begun:
            raise click.ClickException(
                f"{target}: the answer broke off: {str(error).rstrip('.')}. Call again."
            ) from error
        raise click.ClickException(
            f"{target}: {str(error).rstrip('.')}. {_no_answer(target, str(error))}"
        ) from error


def _no_answer(target: str, error: str) -> str:
    """What to do where there was none, by what is said of it."""
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return (
            "The server's certificate is not trusted here: name its authority with `--cacert FILE`"
            " or SSL_CERT_FILE, and the server as its certificate does."
        )
    if "certificate required" in error or "handshake failure" in error:
        return "The server asks for a certificate of the client's: `--cert FILE`."
    if "WRONG_VERSION_NUMBER" in error:
        return f"It speaks no TLS: write {target.replace('https://', 'http://', 1)}"
    if error.startswith("Server disconnected") and target.startswith("http://"):
        return f"It may speak TLS: write {target.replace('http://', 'https://', 1)}"
    return "Nothing answers there: `wakeful status` shows what serves on this machine."


def is_streamed(answer: httpx.Response) -> bool:
    """Whether an answer comes in events or lines, each as soon as it is there."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    return answer.is_success and kind in ("text/event-stream", "application/x-ndjson")
