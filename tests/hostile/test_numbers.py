"""Each of the 44 rows of docs/reliability.md is sent to every way of serving, by this folder, or has
the tests that are named here: they were there for what needs a process to die, a clock, or an
author.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.hostile.acts import ACTS, SLOW
from tests.hostile.bodies import BODIES
from tests.hostile.rows import ROWS

TESTS: Final = Path(__file__).parents[1]

LAST: Final = 44

HERE: Final = frozenset({*range(1, 29), 30, 31, 33, 34, 35})
"""Rows of ``rows``, ``bodies``, ``acts`` and ``vectors``."""

ELSEWHERE: Final[dict[int, dict[str, str]]] = {
    29: {
        "every way": "hostile/test_bombs.py test_a_bomb_is_refused",
        "pictures": "apps/test_images.py test_a_damaged_picture_is_read_or_refused",
    },
    32: {
        "workers": "deployments/local/test_process_ends.py test_a_row_that_kills_its_process_is_refused",
        "up": "services/test_poison_kills.py test_a_row_that_kills_replicas_is_refused_by_the_next_one",
        "up, in the host": "services/test_poison_kills.py test_a_row_that_kills_its_host_is_refused_after_two_processes",
    },
    36: {
        "workers": "deployments/local/test_processes.py test_a_process_that_is_killed_costs_its_callers_nothing",
        "up": "services/test_faults.py test_nothing_is_lost",
    },
    37: {
        "run": "deployments/local/test_hangs.py test_the_next_call_of_a_function_that_hangs_is_answered",
        "workers": "deployments/local/test_process_ends.py test_a_process_that_hangs_gets_no_calls",
        "up": "services/test_redeploy.py test_a_process_that_is_stopped_is_replaced",
    },
    38: {
        "run": "deployments/local/test_reload.py test_a_serving_process_that_dies_is_started_again",
        "workers": "deployments/local/test_processes.py test_haproxy_that_is_killed_is_started_again",
        "up": "services/test_proxy_kills.py test_what_dies_before_the_replicas_is_back",
    },
    39: {
        "run": "deployments/local/test_reload.py test_broken_code_changes_nothing",
        "up": "services/test_new_code.py test_new_code_that_is_broken_never_takes_over",
    },
    40: {
        "every way": "runtime/http/test_library_handler.py test_a_hundred_first_calls_are_one_load",
        "late": "runtime/http/test_deadlines.py test_a_wake_and_a_run_share_one_deadline",
        "failed": "runtime/http/test_library_handler.py test_a_load_that_fails_is_not_hammered",
    },
    41: {
        "run": "runtime/http/test_draining.py test_a_second_signal_does_not_wait",
        "workers": "deployments/local/test_process_ends.py test_sigterm_answers_what_is_under_way",
        "up": "services/test_drain.py test_down_loses_nothing",
        "a full disk": "deployments/ray_support/test_state_dir.py test_a_full_disk_hides_no_cluster",
        "few files": "runtime/http/transport/test_connection_limit.py test_there_are_as_many_as_files_may_be_open",
    },
    42: {
        "every way": "runtime/execution/test_out_of_memory.py test_a_batch_too_large_for_memory_is_halved_and_the_limit_kept",
    },
    43: {
        "every way": "deployments/preflight/test_load_all.py test_a_function_that_fails_says_why",
    },
    44: {
        "every way": "runtime/declaration/test_config_file.py test_an_evil_value_is_refused_with_its_line",
        "what YAML says": "runtime/declaration/test_yaml_reader.py test_aliases_are_not_followed",
    },
}
"""By number: which way of serving, and the test below ``tests``."""


def test_each_number_has_its_test() -> None:
    """One place each."""
    assert sorted([*HERE, *ELSEWHERE]) == [*range(1, LAST + 1)]
    assert {one.number for one in (*ROWS, *BODIES, *ACTS, SLOW)} == HERE


def test_the_tests_that_are_named_are_there() -> None:
    """Under these names."""
    missing = []
    for named in ELSEWHERE.values():
        for place in named.values():
            file, name = place.split()
            if f"def {name}(" not in (TESTS / file).read_text(encoding="utf-8"):
                missing.append(place)
    assert not missing


def test_rows_have_names_of_their_own() -> None:
    """Each can be run by itself."""
    names = [str(one) for one in (*ROWS, *BODIES, *ACTS, SLOW)]
    assert len(names) == len(set(names))
