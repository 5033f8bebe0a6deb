"""One pull at a time."""

from __future__ import annotations

import pytest

from runtime.errors import StoreError
from runtime.system.files import hold_lock


def test_a_second_one_waits_and_gives_up(tmp_path):
    """While the folder is held; afterwards it is free."""
    with (
        hold_lock(tmp_path),
        pytest.raises(StoreError, match="another `wakeful models pull`"),
        hold_lock(tmp_path, timeout_s=0),
    ):
        pass
    with hold_lock(tmp_path, timeout_s=0):
        pass
