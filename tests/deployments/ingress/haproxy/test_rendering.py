"""HAProxy's configuration as it is written: what it says, and that HAProxy takes it."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from deployments.ingress import haproxy as package
from deployments.ingress.haproxy import rules
from deployments.ingress.haproxy.access import make_files
from deployments.ingress.haproxy.ray_config import read
from deployments.ingress.haproxy.rendering import render_serve
from deployments.ingress.haproxy.syntax import parse
from deployments.ingress.haproxy.terms import Deployed, DeployedCors, decide_terms
from deployments.ingress.haproxy_config import binary
from deployments.ray_support import haproxy_names
from tests.deployments.ingress.haproxy.ray_files import FOLDER, RELEASES, ray_file
from tests.deployments.ingress.haproxy.test_ray_config import CASES

POLICY = {"origins": ["https://app.example"], "credentials": True, "max_age_s": 600}
EVERYTHING = Deployed(
    is_ours=True,
    host="10.0.0.5",
    secret="c0ffee",
    hidden=("/v2/models/part",),
    cors=DeployedCors(POLICY, [("/other", False)]),
)
PLAIN = Deployed()
NO_PAGES = Deployed(is_ours=True, logs=True, secret="c0ffee", cors=DeployedCors(None))
KEYED = Deployed(is_ours=True, secret="c0ffee", cors=DeployedCors(None), asks_for_keys=True)
BELOW_ANOTHER = [("/", False), ("/v2/models", True)]
OPEN = Deployed(cors=DeployedCors({**POLICY, "origins": ["*"]}, BELOW_ANOTHER))


ROUTER = 'core.register_action("route_via_ingress_request_router", {"http-req"}, function() end)'


def rendered(
    release: str, case: str, deployed: Deployed, cache: Path | None = None, folder: str = FOLDER
) -> str:
    """Ours, where the function that has no replica may be replayed."""
    ray = read(ray_file(release, case).replace(FOLDER, folder))
    terms = decide_terms(ray, deployed, lambda prefix: prefix == "/v2/models/sleeps")
    return render_serve(ray, terms, cache)


RAYS_WARNINGS = (
    "log format ignored for",  # `option httplog` where nothing is logged
    "missing timeouts for backend",  # a function has its own, for each call
    "content-type 'application/grpc' ignored",
)
"""Of HAProxy on Ray's own file, too."""


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_haproxy_takes_it(tmp_path, release, case):
    """Without a warning of its own, whatever Ray knows and whatever is deployed."""
    (tmp_path / "server-state").write_text("1\n")
    # Ray's script has the cluster's addresses in it
    (tmp_path / "ingress_request_router.lua").write_text(ROUTER)
    make_files(tmp_path)
    for deployed in (PLAIN, EVERYTHING, NO_PAGES, OPEN, KEYED):
        file = tmp_path / "haproxy.cfg"
        file.write_text(rendered(release, case, deployed, folder=str(tmp_path)))
        checked = subprocess.run(
            [binary(), "-c", "-f", str(file)], capture_output=True, text=True, check=False
        )
        warnings = [line for line in checked.stderr.splitlines() if "[WARNING]" in line]
        ours = [line for line in warnings if not any(known in line for known in RAYS_WARNINGS)]
        assert (checked.returncode, ours) == (0, []), checked.stderr


@pytest.mark.parametrize(("deployed", "bound"), [(NO_PAGES, "127.0.0.1"), (PLAIN, "*")])
def test_what_a_later_ray_listens_at_is_for_this_machine_alone(deployed, bound):
    """Where all is that clients do not call: what it is for is not known here."""
    text = ray_file("ray_2_60", "public") + "frontend later\n    bind *:7777 name x\n"
    later = parse(render_serve(ray := read(text), decide_terms(ray, deployed, lambda _: False)))[-1]
    assert later.lines == (f"bind {bound}:7777 name x",)


PATCHED = Path(__file__).with_name("patched")
"""What the program wrote that edited Ray's file line by line, before there were templates; what was
a fault of it is mended there.
"""

ANSWERED = "uuid,concat(\x7f,txn.request_id),word(-1,\x7f),bytes(0,128),set-var(txn.request_id)"
"""The id of a request that HAProxy answers."""

OTHER = {
    # no path leads elsewhere there: the second rule was never reached
    "before_routes": {
        "backend default_backend": (
            [
                "http-request return status 503 content-type application/json lf-string "
                '\'{"error":"HAProxy has just started and gets its routes within a second; '
                'call again.","code":"unavailable","where":"","request_id":'
                f"\"%[{ANSWERED},json(utf8s)]\"}}' hdr x-request-id '%[{ANSWERED}]' hdr retry-after 1"
            ]
        )
    }
}
"""Sections that say something else now."""

NEWER = ("http-request del-header forwarded", "http-request del-header x-wakeful- ")
NEWER += ("http-request del-header '^x-wakeful-", f"http-request set-header {rules.EDGE} ")
NEWER += (f"set-var {rules.KEPT}", "http-request set-var(txn.wakeful_end) ")
NEWER += (
    "stick-table type ipv6 ",
    "acl wakeful_own ",
    "acl wakeful_ipv4 ",
    "tcp-request connection ",
)
NEWER += ("http-request set-var(txn.wakeful_cors) bool(0) if { path /console }",)
NEWER += ("acl wakeful_site ", "http-request set-var(txn.wakeful_foreign)")
NEWER += ("http-request set-var(txn.wakeful_host)", "http-request set-var(txn.wakeful_outer_host)")
NEWER += ("http-request unset-var(txn.wakeful_foreign)",)
NEWER += ("http-request return status 403 content-type application/json",)
NEWER += (f"use_backend {rules.CONSOLE} ",)
REPLACED = "{ var(txn.wakeful_replaced) -m bool }"
NEWER += ("tcp-request session ", "http-request set-var(txn.wakeful_replaced) ")
NEWER += (f"http-request set-var(txn.wakeful_cors) bool(0) if {REPLACED}",)
NEWER += ("http-request unset-var(txn.wakeful_fine)", "http-request unset-var(txn.wakeful_origin)")
NEWER += (f"http-request unset-var({haproxy_names.ROUTER_OF})",)
RETURNED = "http-request return status 503 content-type application/json lf-string "
NEWER += (f'{RETURNED}\'{{"error":"this address has ', f'{RETURNED}\'{{"error":"this HAProxy was ')
"""Beginnings of lines that were not there then."""


@pytest.mark.parametrize(
    ("case", "deployed"), [("shop", EVERYTHING), ("before_routes", NO_PAGES), ("router", PLAIN)]
)
def test_it_says_what_edits_of_rays_file_said(case, deployed):
    """Directive by directive; in sections whose rules are tried in turn, in the same order."""
    text = rendered("ray_2_60", case, deployed)
    text = text.replace(str(rules.SEQUENCE_SCRIPT), "/sequence_routing.lua")
    before = {one.head: list(one.lines) for one in parse((PATCHED / f"{case}.cfg").read_text())}
    after = {
        one.head: [line for line in one.lines if not line.startswith(NEWER)] for one in parse(text)
    }
    after.pop(f"backend {rules.CONSOLE}", None)
    assert after.keys() == before.keys()
    for head, lines in before.items():
        expected = OTHER.get(case, {}).get(head, lines)
        if head in ("global", "defaults"):
            assert sorted(after[head]) == sorted(expected)
        else:
            assert [line for line in after[head] if not line.startswith(NEWER)] == expected


@pytest.mark.parametrize("release", RELEASES)
def test_pages_of_the_console_have_a_backend_of_their_own(release):
    """With the catalogue's servers, which are checked once; an application whose prefix is longer
    keeps what is below it.
    """
    sections = {one.head: one.lines for one in parse(rendered(release, "shop", EVERYTHING))}
    routes = [line for line in sections["frontend http_frontend"] if line.startswith("use_backend")]
    mine = f"use_backend {rules.CONSOLE} if {{ path /console/events }}"
    assert routes[-2:] == [mine, "use_backend http-catalogue if is_http-catalogue"]
    servers = [line for line in sections[f"backend {rules.CONSOLE}"] if line.startswith("server ")]
    assert [line.partition(" track ")[2] for line in servers] == [
        "http-catalogue/SERVE_REPLICA_catalogue-WakefulCatalogue-c1",
        "http-catalogue/SERVE_PROXY_ACTOR-a1 backup",
    ]
    assert rules.CONSOLE not in rendered(release, "before_routes", EVERYTHING)


@pytest.mark.parametrize("release", RELEASES)
def test_rays_router_hears_first_whether_it_is_asked(release):
    """Behind what says which application's router it is, before all that asks."""
    sections = {one.head: one.lines for one in parse(rendered(release, "router", PLAIN))}
    lines = sections["frontend http_frontend"]
    unset = f"http-request unset-var({haproxy_names.ROUTER_OF}) if {REPLACED}"
    at = lines.index(unset)
    assert lines[at + 1].startswith(haproxy_names.ASKS_ROUTER)
    assert any(f"set-var({haproxy_names.ROUTER_OF})" in line for line in lines[:at])
    asks = [line for line in lines if "has_ingress_request_router_app" in line]
    assert len(asks) > 1
    assert set(asks) <= set(lines[at + 1 :])


def test_a_compiled_template_is_kept(tmp_path):
    """And made again where it is damaged."""
    text = rendered("ray_2_60", "shop", EVERYTHING, tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == 3
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    assert rendered("ray_2_60", "shop", EVERYTHING, tmp_path) == text
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_no_regular_expression_reads_rays_file():
    """What a pattern finds in another program's text is found until a line changes."""
    folder = Path(str(package.__file__)).parent
    for path in (*folder.glob("*.py"), folder.with_name("haproxy_config.py")):
        imported = {
            name.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for name in node.names
        }
        assert "re" not in imported, path
