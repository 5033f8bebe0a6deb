"""Of what Ray writes: messages, made as Ray makes them and read as Wakeful does; headers; and the
file for HAProxy.
"""

from __future__ import annotations

from typing import Final

from deployments.ray_support import texts
from deployments.ray_support.assumptions.looking import texts_of
from runtime.system.assumptions import Assumption, require

VALUE: Final = "{'CPU': 1.0}"
"""What stands in messages for any value: resources, as Ray writes them."""


def _waiting() -> None:
    from ray.serve._private import deployment_state

    found = [wait for text in texts_of(deployment_state, VALUE) if (wait := texts.read_wait(text))]
    require(
        found == [({"CPU": "1.0"}, {"CPU": "1.0"})],
        "no message says what a replica waits for, and what is free",
    )


WAITING: Final = Assumption(
    "message of a replica that waits for resources",
    "`status` says what a function waits for and what is free, and an update does not wait for "
    "room that there is not. Without it both say Ray's own words, and wait two minutes.",
    "",
    _waiting,
)


def _loading() -> None:
    from ray.serve._private import deployment_state

    found = [text for text in texts_of(deployment_state, VALUE) if texts.is_loading(text)]
    require(
        any("reconfigure" in text for text in found),
        "no message says that a constructor takes long",
    )


LOADING: Final = Assumption(
    "message of a replica that loads",
    "`status` says that a function is loading. Without it it says Ray's own words.",
    "",
    _loading,
)


def _deaths() -> None:
    from ray._raylet import ActorID
    from ray.core.generated.common_pb2 import ActorDiedErrorContext  # type: ignore[attr-defined]
    from ray.exceptions import ActorDiedError

    context = ActorDiedErrorContext(
        actor_id=ActorID.nil().binary(), class_name="A", pid=7, error_message="It ran out."
    )
    error = ActorDiedError(context)
    told = texts.read_error(f"ray.exceptions.{type(error).__name__}: {error}")
    require(told == texts.ActorDeath("A", "It ran out."), f"of a death is read {told}")


DEATHS: Final = Assumption(
    "message of an actor that died",
    "`status` says why a replica died. Without it it says the last line of a traceback.",
    "",
    _deaths,
)


def _raised() -> None:
    from ray.exceptions import RayTaskError

    trace = 'Traceback (most recent call last):\n  File "a.py"\nmine.LoadError: no weights\n'
    error = RayTaskError("__init__", trace, ValueError("no weights"))  # type: ignore[no-untyped-call]
    told = texts.read_error(str(error))
    require(told == texts.RaisedError("LoadError", "no weights"), f"of an error is read {told}")


RAISED: Final = Assumption(
    "message of a constructor that raised",
    "`up` says why a function does not load, in a sentence. Without it it prints a traceback.",
    "",
    _raised,
)


def _headers() -> None:
    from ray.serve._private import constants

    ours = (texts.TIMEOUT_HEADER.decode(), texts.NO_DISCONNECT_HEADER.decode())
    rays = (
        constants.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        constants.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    )
    require(ours == rays, f"Serve obeys the headers {', '.join(rays)}")


HEADERS: Final = Assumption(
    "headers that Serve obeys",
    "A caller cannot switch off a function's deadline, and no call is watched twice. Without it a "
    "header does.",
    "",
    _headers,
)


def _pages() -> None:
    from ray.serve._private import replica

    source = {text for text in texts_of(replica, "") if text.startswith("/-/")}
    require(
        {f"{texts.SERVE_PATHS}healthz", texts.ROUTES_PATH} <= source,
        f"Serve's own paths are {sorted(source)}",
    )
    plain = [(b"content-type", b"text/plain; charset=utf-8")]
    require(texts.is_error_page(500, plain), "an error page of Serve's is not known")


PAGES: Final = Assumption(
    "paths and error pages of Serve's",
    "A call whose replica died is sent again, and checks of HAProxy's are answered by Serve. "
    "Without it clients get Serve's page.",
    "",
    _pages,
)


def _output() -> None:
    from ray._private import ray_constants

    mark = ray_constants.LOG_PREFIX_ACTOR_NAME
    line = f"{mark}ServeReplica:f:Function"
    require(texts.is_rays_line(line), f"Ray begins a file with {line}")
    require(texts.names_replica(line.encode(), ["f"]), f"Ray says whose a file is by {mark}")
    require(
        ray_constants.SESSION_LATEST == texts.LAST_SESSION,
        f"the last session is {ray_constants.SESSION_LATEST}",
    )


OUTPUT: Final = Assumption(
    "output files of processes",
    "`wakeful logs` shows what a function wrote. Without it it shows nothing.",
    "",
    _output,
)


def _records() -> None:
    import logging

    from ray.serve._private.logging_utils import ServeFormatter

    formatter = ServeFormatter("f_Function", "x1")
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": "said"})
    head = texts.read_record_head(formatter.format(record))
    require(head is not None, f"a record of Serve's is {formatter.format(record)!r}")


RECORDS: Final = Assumption(
    "records of Serve's log",
    "`wakeful logs` merges records by time. Without it a record of Serve's is a line of the one "
    "before.",
    "",
    _records,
)

WRITTEN: Final = (WAITING, LOADING, DEATHS, RAISED, HEADERS, PAGES, OUTPUT, RECORDS)
