"""Locust users of the shipped functions; a wrong answer is a failure, whatever its status, and
Locust then exits with 1.

    locust -f loadtests/locustfile.py                                        # page at :8089
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s            # a table
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s EmbedUser  # one function

There is a class for each shipped function, whose users post its samples in turn. A user sends its
next request when the last is answered: so many users are so many requests in flight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from locust import FastHttpUser, constant, task

from loadtests.answers import WrongAnswer
from loadtests.declare import shipped
from loadtests.samples import Sample, turns


class FunctionUser(FastHttpUser):
    """Posts the samples of a function in turn and checks what comes back."""

    abstract = True
    host = "http://127.0.0.1:8000"
    wait_time = constant(0)
    network_timeout = 30.0
    connection_timeout = 5.0
    turns: Iterator[Sample]

    @task
    def send(self) -> None:
        """One request; its failure carries the reason."""
        sample = next(self.turns)
        payload: Any = sample.body  # declared as text; bytes pass through as they are
        with self.client.post(
            sample.path,
            data=payload,
            headers=dict(sample.headers),
            name=sample.name,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                text = (answer.text or str(answer.error))[:200]
                answer.failure(f"status {answer.status_code}: {text}")
                return
            try:
                sample.check(orjson.loads(answer.content))
            except WrongAnswer as wrong:
                answer.failure(f"wrong answer: {wrong}")
            except Exception as error:  # an answer of an unknown form is a wrong one
                answer.failure(f"unreadable answer: {type(error).__name__}: {error}")
            else:
                answer.success()


for function in shipped():
    user = f"{function.capitalize()}User"
    globals()[user] = type(user, (FunctionUser,), {"turns": turns(function)})
