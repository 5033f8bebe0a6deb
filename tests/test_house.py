"""Classes keep to one job."""

from __future__ import annotations

from tests.house import MOST_ATTRIBUTES, large_classes

COMPOSED = {
    "Function": "puts a loaded function together: stages, queues, calls, sequences, answers",
    "Host": "puts the process of the host together, as Ray constructs it",
}
"""Classes that have more attributes than others, and why: their one job is to hold the parts."""


def test_a_class_of_many_attributes_holds_parts_and_nothing_else() -> None:
    """Any other has two jobs as a rule: look for the one that leaves, as a class of its own."""
    found = {name.split()[0] for _, name in large_classes()}
    assert found == set(COMPOSED), f"above {MOST_ATTRIBUTES} attributes, and not on the list"
