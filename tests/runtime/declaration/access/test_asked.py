"""When a server asks for keys."""

from __future__ import annotations

import pytest

from runtime.declaration.access.asked import OpenToStrangers, asks_for_keys
from tests.problems import expect_values

YES, NO, REFUSED = True, False, None


@pytest.mark.parametrize(
    ("is_declared", "is_loopback", "has_keys", "is_insecure", "asked"),
    [
        (NO, YES, NO, NO, NO),
        (NO, YES, NO, YES, NO),
        (NO, YES, YES, NO, NO),
        (NO, YES, YES, YES, NO),
        (NO, NO, NO, NO, REFUSED),
        (NO, NO, NO, YES, NO),
        (NO, NO, YES, NO, YES),
        (NO, NO, YES, YES, NO),
        (YES, YES, NO, NO, YES),
        (YES, YES, NO, YES, REFUSED),
        (YES, YES, YES, NO, YES),
        (YES, YES, YES, YES, REFUSED),
        (YES, NO, NO, NO, YES),
        (YES, NO, NO, YES, REFUSED),
        (YES, NO, YES, NO, YES),
        (YES, NO, YES, YES, REFUSED),
    ],
)
def test_every_case(is_declared, is_loopback, has_keys, is_insecure, asked):
    """Beyond this machine nothing is open that was not said to be."""
    case = {
        "is_declared": is_declared,
        "is_loopback": is_loopback,
        "has_keys": has_keys,
        "is_insecure": is_insecure,
    }
    if asked is not None:
        assert asks_for_keys("10.0.0.7", **case) is asked
        return
    with pytest.raises(OpenToStrangers) as refused:
        asks_for_keys("10.0.0.7", **case)
    assert refused.value.code == "open_to_strangers"
    expect_values(refused.value, "--insecure", *(["http.auth"] if is_declared else ["10.0.0.7"]))
