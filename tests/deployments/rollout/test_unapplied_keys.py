"""What a cluster has no way to apply is refused before anything starts."""

from __future__ import annotations

from deployments.rollout.unapplied_keys import unappliable_problems
from runtime.declaration import config_file

HOST_WITHOUT_CATALOGUE = """\
applications:
  - {name: page, route_prefix: /, import_path: "their.page:app"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
  - {name: a, route_prefix: /v2/models/a, import_path: "deployments:function", args: {onnx: a.onnx}}
"""


def test_what_up_cannot_apply_is_refused_with_its_line(tmp_path):
    """Never ignored: the same file would serve differently by `serve deploy`."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(HOST_WITHOUT_CATALOGUE)
    (problem,) = unappliable_problems(config_file.read(path))
    assert (problem.key, problem.line) == ("applications[1]", 3)
