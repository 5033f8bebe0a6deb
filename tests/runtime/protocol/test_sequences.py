"""What becomes of a call in a sequence: tables."""

from __future__ import annotations

import math

import pytest

from runtime.declaration.function_spec import SequencesSpec
from runtime.errors import Overloaded, RequestError, SequenceUnknown, TooManySequences
from runtime.protocol.sequences import (
    MOST_WAITING,
    SequenceInfo,
    SequenceRef,
    expires_at,
    is_expired,
    read_sequence,
    sequence_refusal,
    state_issue,
)

LIMITS = SequencesSpec(max_sequences=2, idle_timeout_s=10)
GOES_ON, STARTS = SequenceRef("a"), SequenceRef("a", starts=True)


@pytest.mark.parametrize(
    ("identity", "starts", "ends", "wanted"),
    [
        ("a", False, False, SequenceRef("a")),
        (7, True, False, SequenceRef("7", starts=True)),
        ((1 << 64) - 1, False, True, SequenceRef("18446744073709551615", ends=True)),
        ("é", True, True, SequenceRef("é", True, True)),
        ("", False, False, None),
        (0, False, False, None),
        ("0", False, False, None),
        (None, False, False, None),
    ],
)
def test_a_call_names_its_sequence(identity, starts, ends, wanted):
    """By a text or an unsigned number; an empty text and 0 name none, as Triton has it."""
    assert read_sequence(identity, starts, ends) == wanted


@pytest.mark.parametrize(
    ("identity", "starts"),
    [
        (-1, False),
        (1 << 64, False),
        (1.5, False),
        (True, False),
        (["a"], False),
        ("a\n", False),
        ("x" * 129, False),
        ("", True),
        (0, True),
    ],
)
def test_what_names_no_sequence_is_refused(identity, starts):
    """Also a start of nothing."""
    with pytest.raises(RequestError, match="sequence_id"):
        read_sequence(identity, starts, False)


@pytest.mark.parametrize(
    ("sequence", "live", "count", "wanted"),
    [
        (STARTS, None, 0, None),
        (STARTS, None, 2, TooManySequences),
        (STARTS, SequenceInfo(0, 0.0), 2, None),
        (GOES_ON, None, 0, SequenceUnknown),
        (GOES_ON, None, 2, SequenceUnknown),
        (GOES_ON, SequenceInfo(0, 0.0), 2, None),
        (GOES_ON, SequenceInfo(1, 0.0), 2, None),
        (GOES_ON, SequenceInfo(MOST_WAITING, 0.0), 1, None),
        (GOES_ON, SequenceInfo(MOST_WAITING + 1, 0.0), 1, Overloaded),
        (STARTS, SequenceInfo(MOST_WAITING + 1, 0.0), 1, Overloaded),
    ],
)
def test_which_calls_wait_for_a_turn(sequence, live, count, wanted):
    """A call goes on with what lives or is about to, or begins where there is a place; no sequence
    is dropped for a new one.
    """
    refused = sequence_refusal(sequence, live, count, 4.0, LIMITS, 1.0)
    assert refused is None if wanted is None else type(refused) is wanted


@pytest.mark.parametrize(("frees_at", "wait_s"), [(4.0, 3.0), (1.2, 1.0), (math.inf, 10.0)])
def test_a_start_that_finds_no_place_is_answered_when_one_may_be_free(frees_at, wait_s):
    """429 with Retry-After: when the next one expires, a second at least, the idle time at most."""
    refused = sequence_refusal(STARTS, None, 2, frees_at, LIMITS, 1.0)
    assert refused is not None
    assert (refused.status, refused.code, refused.retry_after_s) == (
        429,
        "too_many_sequences",
        wait_s,
    )


@pytest.mark.parametrize(
    ("calls", "now", "wanted"), [(0, 9.9, False), (0, 10.0, True), (1, 99.0, False)]
)
def test_a_sequence_expires_when_it_is_idle(calls, now, wanted):
    """Never while calls are at work."""
    live = SequenceInfo(calls, 0.0)
    assert is_expired(live, LIMITS, now) is wanted
    assert expires_at(live, LIMITS) == (math.inf if calls else 10.0)


@pytest.mark.parametrize(
    ("declared", "kept", "issue"),
    [
        (None, (), ""),
        (LIMITS, ("x",), ""),
        (None, ("x",), "Add 'sequences: {}'"),
        (LIMITS, (), "Delete 'sequences'"),
    ],
)
def test_sequences_are_declared_where_a_state_is_kept(declared, kept, issue):
    """And nowhere else."""
    assert issue in state_issue(declared, kept)
    assert bool(issue) is bool(state_issue(declared, kept))
