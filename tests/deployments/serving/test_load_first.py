"""What a new host loads before it takes the place of one with previous code."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.serving.host import load_first
from runtime.errors import LoadError
from runtime.library.library import DeclaredFunction
from tests.sleepers import HANDS, Served, obedient, run, serving


def test_all_are_loaded_or_it_does_not_start(tmp_path: Path) -> None:
    """Each that does not load is named; one that is not declared any more is no reason."""

    async def work(served: Served) -> None:
        await load_first(served.library, ["first_a", "gone"])
        assert served.library.entries.require("first_a").state.state == "ready"
        HANDS["first_b"].fault = "no weights"
        with pytest.raises(LoadError, match=r"^first_b: .*no weights"):
            await load_first(served.library, ["first_b", "first_a", "first_c"])
        assert served.library.entries.require("first_c").state.state == "ready"

    run(
        serving(
            tmp_path,
            *(DeclaredFunction(obedient(name, name)) for name in ("first_a", "first_b", "first_c")),
        ),
        work,
    )
