"""The account: every request is entered once, and a verdict is good only if there is something to judge and nothing is lost."""

from __future__ import annotations

import time

import pytest

from loadtests.http1 import Phase
from loadtests.ledger.book import KEPT, Book, Spans, Verdict
from loadtests.ledger.outcome import End, Exchange, Request

REQUEST = Request("r-1", "/f", b"{}", lambda answer: None)
REFUSAL = b'{"error": "the queue is full", "code": "overloaded"}'


def right(at: float = 0.0, seconds: float = 0.1) -> Exchange:
    """An answer."""
    return Exchange(at, seconds, Phase.DONE, 200, {}, b"{}")


def refused(at: float) -> Exchange:
    """A refusal."""
    return Exchange(at, 0.01, Phase.DONE, 429, {"retry-after": "1"}, REFUSAL)


BROKEN = Exchange(5.0, 0.1, Phase.HEAD, error="closed", before=3)


@pytest.mark.parametrize(
    ("verdict", "is_good"),
    [
        (Verdict(3, 3, 0, 0, 0), True),
        (Verdict(3, 1, 1, 1, 0), True),
        (Verdict(3, 2, 0, 0, 1), False),
        (Verdict(0, 0, 0, 0, 0), False),
        (Verdict(3, 0, 3, 0, 0), False),
        (Verdict(3, 2, 0, 0, 0), False),
    ],
    ids=["all right", "refused and cancelled", "one lost", "nothing sent", "nothing answered", "one unaccounted for"],
)
def test_only_a_whole_account_without_a_loss_is_good(verdict: Verdict, is_good: bool) -> None:
    """An empty test proves nothing, nor does one that forgot a request."""
    assert verdict.is_good is is_good


def test_the_sums_say_why() -> None:
    """Each end once, reasons with how often, and the details of what was lost."""
    book = Book()
    for exchange in (right(), BROKEN, BROKEN):
        book.begin()
        book.enter(REQUEST, exchange)
    book.begin()
    verdict = book.verdict()
    assert str(verdict) == "4 sent, 1 right, 0 refused, 0 cancelled, 2 lost, 1 UNACCOUNTED; 2 x lost: closed at head"
    assert [(lost.id, lost.phase, lost.at, lost.before) for lost in verdict.examples] == [("r-1", Phase.HEAD, 5.0, 3)] * 2


def test_two_books_add_up() -> None:
    """Counts, reasons and examples."""
    one, other = Book(), Book()
    for book in (one, other):
        book.begin()
        book.enter(REQUEST, BROKEN)
    both = one.verdict() + other.verdict()
    assert (both.sent, both.lost, both.reasons, len(both.examples)) == (2, 2, {"lost: closed at head": 2}, 2)


def test_details_of_lost_requests_are_bounded() -> None:
    """All are counted, some are kept."""
    book = Book()
    for _ in range(KEPT + 5):
        book.begin()
        book.enter(REQUEST, BROKEN)
    assert (book.verdict().lost, len(book.verdict().examples)) == (KEPT + 5, KEPT)


def test_a_refusal_is_in_order_while_there_is_overload_and_shortly_after() -> None:
    """Before and later it is a loss."""
    book, now = Book(), time.time()
    assert book.enter(REQUEST, refused(now - 1)).end is End.LOST
    with book.overload():
        assert book.enter(REQUEST, refused(time.time())).end is End.REFUSED
    assert book.enter(REQUEST, refused(time.time() + 1)).end is End.REFUSED
    assert book.enter(REQUEST, refused(time.time() + 60)).end is End.LOST


def test_an_overload_counts_for_what_was_under_way_in_it() -> None:
    """Sent before its end, answered after its begin."""
    spans = Spans()
    assert not spans.touch(0.0, 100.0)
    spans.begin(10.0)
    assert [spans.touch(8.0, 9.0), spans.touch(9.0, 11.0), spans.touch(50.0, 60.0)] == [False, True, True]
    spans.end(20.0)
    assert [spans.touch(19.0, 21.0), spans.touch(21.0, 22.0)] == [True, False]


def test_times_are_asked_for_by_end_and_by_when_it_was_sent() -> None:
    """For the latency before and after something was done."""
    book = Book()
    for at, seconds in ((1.0, 0.1), (2.0, 0.5), (3.0, 0.3)):
        book.begin()
        book.enter(REQUEST, right(at, seconds))
    assert book.between(End.RIGHT, 1.5, 3.0) == [0.5]
    assert book.sent_between(0.0, 2.5) == 2
    assert (book.count(End.RIGHT), book.times(End.RIGHT)) == (3, [(1.0, 0.1), (2.0, 0.5), (3.0, 0.3)])
