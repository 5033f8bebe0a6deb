"""Locust users of the shipped functions; a wrong answer is a failure, whatever its status, and
Locust then exits with 1.

    locust -f loadtests/locustfile.py                                        # page at :8089
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s            # a table
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s EmbedUser  # one function

There is a class for each shipped function, whose users send its samples in turn. A user sends its
next one when the last is answered: so many users are so many calls in flight.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from deployments.loadtest.calls.load_call import LoadCall
from deployments.loadtest.generator.locust_users import UserCalls, make_users
from loadtests.declare import shipped
from loadtests.samples import Check, is_stream, samples


class SampleChecks:
    """Checks each answer as its sample says.

    Args:
        checks: by name and body of the call.
    """

    def __init__(self, checks: Mapping[tuple[str, bytes], Check]) -> None:
        self._checks = checks

    def check(self, call: LoadCall, body: bytes, headers: Mapping[str, str]) -> None:
        """See ``deployments.loadtest.calls.answers.Checks``."""
        self._checks[call.name, call.body](orjson.loads(body))


def prepare(url: str) -> UserCalls:
    """The samples of all shipped functions; they are the same for every server."""
    calls, checks = dict[str, list[LoadCall]](), dict[tuple[str, bytes], Check]()
    for function in shipped():
        of = samples(function)
        calls[function] = [
            LoadCall(
                function,
                sample.path,
                sample.body,
                sample.headers,
                name=sample.name,
                sequence_calls=int(is_stream(function)),
            )
            for sample in of
        ]
        checks |= {(sample.name, sample.body): sample.check for sample in of}
    return UserCalls(calls, SampleChecks(checks))


globals().update(make_users(list(shipped()), prepare, None))
