"""`wakeful wake`, `sleep` and `pin` on a server that runs."""

from __future__ import annotations

import httpx
import pytest
from click.testing import CliRunner, Result

from deployments.cli import main
from tests import serving

FILE = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args: {graph: [{stage: greet, python: "greeting_of_a_test:greet"}]}
"""

STAGE = 'def greet(name: str) -> str:\n    return f"hello {name}"\n'


@pytest.mark.slow
def test_a_function_is_told_to_sleep_and_to_wake(tmp_path):
    """Each command says what came of it, or why nothing did."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    (tmp_path / "greeting_of_a_test.py").write_text(STAGE)

    with serving.run(tmp_path / "serve_config.yaml", root=tmp_path, log=tmp_path / "log") as url:

        def told(*words: str) -> Result:
            return CliRunner().invoke(main, [*words, "--url", url])

        def state() -> str:
            return str(httpx.post(f"{url}/v2/repository/index").json()[0]["state"])

        for words, code, expected in (
            (["sleep", "f"], 0, "UNAVAILABLE"),
            (["wake", "f"], 0, "READY"),
            (["sleep", "f"], 0, "UNAVAILABLE"),
            (["pin", "f"], 0, "READY"),
            (["sleep", "f"], 1, "READY"),
            (["pin", "--off", "f"], 0, "READY"),
            (["sleep", "f"], 0, "UNAVAILABLE"),
        ):
            result = told(*words)
            assert result.exit_code == code, result.output
            assert state() == expected, words
        assert "wakeful pin --off f" in told("pin", "f").output + told("sleep", "f").stderr
        unknown = told("wake", "g")
        assert unknown.exit_code == 1
        assert "no function is named so" in unknown.stderr
