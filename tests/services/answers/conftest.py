"""The functions of ``declared``, served together: an update takes seconds, and a replica a core for
three.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployments.projects import HOST, Standing, function
from tests.services.answers.declared import DRIP, ELEMENTS, FILES, FUNCTION, ROWS, STAGES


@pytest.fixture(scope="package")
def up(standing: Standing) -> Iterator[Standing]:
    """Up, with all of them; of those that drip, one is loaded by the host, one has its own replica
    once it is called, so that the standby has the call, and one has it.
    """
    (standing.folder / "answers_of_a_test.py").write_text(STAGES)
    declared = {**FILES, **ELEMENTS, **ROWS}
    with standing.served(
        *HOST,
        function("drip_rare", DRIP, least=0),
        function("drip_asleep", DRIP, least=0, more="tier: own"),
        function("drip_own", DRIP),
        *(
            FUNCTION.format(name=name, graph=graph, least=least)
            for name, (least, graph) in declared.items()
        ),
    ):
        yield standing
