"""What a cluster has no way to apply is refused before anything starts."""

from __future__ import annotations

from deployments.rollout.prepare import shadowing_modules, unappliable_problems
from runtime.declaration import config_file

HOST_ALONE = """\
applications:
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
  - {name: a, route_prefix: /v2/models/a, import_path: "deployments:function", args: {onnx: a.onnx}}
"""


def test_what_up_cannot_apply_is_refused_with_its_line(tmp_path):
    """Never ignored: the same file would serve differently by `serve deploy`."""
    path = tmp_path / "serve_config.yaml"
    path.write_text(HOST_ALONE)
    (problem,) = unappliable_problems(config_file.read(path))
    assert (problem.key, problem.line) == ("applications[0]", 2)


def test_a_module_that_hides_one_of_the_standard_library_is_refused(tmp_path):
    """Ray's processes import from the file's folder first; numbers.py next to it would keep them
    from starting.
    """
    for name in ("numbers.py", "stages.py", "types.txt"):
        (tmp_path / name).touch()
    (problem,) = shadowing_modules([tmp_path])
    assert problem.file == str(tmp_path / "numbers.py")
