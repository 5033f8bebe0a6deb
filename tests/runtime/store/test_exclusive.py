"""One pull at a time."""

from __future__ import annotations

import pytest

from runtime.errors import StoreError
from runtime.store.exclusive import exclusively


def test_a_second_one_waits_and_gives_up(tmp_path):
    """While the folder is held; afterwards it is free."""
    with (
        exclusively(tmp_path),
        pytest.raises(StoreError, match="another `wakeful models pull`"),
        exclusively(tmp_path, timeout_s=0),
    ):
        pass
    with exclusively(tmp_path, timeout_s=0):
        pass
