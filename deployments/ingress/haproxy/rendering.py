"""HAProxy's configuration, written from the templates beside this module: what HAProxy is told
stands there, in its own language, with the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deployments.ingress.haproxy import rules
from deployments.ingress.haproxy.lacks import CLOSED, PROMISES
from deployments.ingress.haproxy.protection import close
from deployments.ingress.haproxy.ray_config import RayConfig
from deployments.ingress.haproxy.syntax import quote_word
from deployments.ingress.haproxy.terms import ServeTerms
from deployments.ray_support.haproxy_names import ASKS_ROUTER, ROUTER_OF

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES: Final = Path(__file__).parent


def render_serve(ray: RayConfig, terms: ServeTerms, cache: Path | None = None) -> str:
    """Return the configuration before the replicas of a cluster.

    Args:
        ray: what only Ray knows.
        cache: a folder of this user's for compiled templates.
    """
    others = [close(one, is_local=terms.is_closed) for one in ray.others]
    values = {
        "ray": ray,
        "terms": terms,
        "others": others,
        "promises": (*PROMISES, CLOSED),
        "asks_router": ASKS_ROUTER,
        "router_of": ROUTER_OF,
    }
    return render("serve.cfg.j2", values, cache)


def render(template: str, values: Mapping[str, Any], cache: Path | None = None) -> str:
    """Return the text of a template.

    Args:
        template: the name of its file.
        values: what it names, beside ``rules``.
        cache: as of ``render_serve``.
    """
    return _environment(cache).get_template(template).render(values)


def _environment(cache: Path | None) -> Environment:
    # late: most that import this module do not render
    from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        bytecode_cache=None if cache is None else FileSystemBytecodeCache(str(cache)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["word"] = quote_word
    environment.globals.update(
        {name: value for name, value in vars(rules).items() if name.isupper()}
    )
    return environment
