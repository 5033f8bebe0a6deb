"""The private names of Ray are those of one version."""

from __future__ import annotations

import importlib.util

import pytest
from ray.serve._private import haproxy

from deployments.ray_support import ray_internals


def test_another_ray_is_refused_when_it_is_imported(monkeypatch):
    """Before anything is started; the message says what to install."""
    monkeypatch.setattr("ray.__version__", "2.61.0")
    found = importlib.util.find_spec("deployments.ray_support.ray_internals")
    assert found is not None
    assert found.loader is not None
    with pytest.raises(ImportError, match=r"pip install 'ray\[serve\]==2\.60\.0'"):
        found.loader.exec_module(importlib.util.module_from_spec(found))
    assert ray_internals.VERSION == "2.60.0"


def test_a_replica_knows_its_name_in_haproxys_configuration():
    """Ray writes it there."""
    manager = haproxy.HAProxyManager.__ray_metadata__.modified_class
    full = "SERVE_REPLICA::an app/2#Wakeful Function#x1_y"
    assert ray_internals.server_name(full) == manager.get_safe_name(full)
    assert ray_internals.server_name(full) == "SERVE_REPLICA_an_app.2-Wakeful_Function-x1_y"
