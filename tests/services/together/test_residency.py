"""Functions that operators load, unload and pin, on Ray."""

from __future__ import annotations

import httpx
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.deployments.projects import Standing, state, wait_until


@pytest.mark.ray
@pytest.mark.slow
def test_operators_load_unload_and_pin_on_ray(up: Standing, client: httpx.Client) -> None:
    """A function in the host, and one that has always its own deployment, which sleeps at zero: by
    Triton's client and by the commands.
    """
    server = triton.InferenceServerClient(up.url.removeprefix("http://"), network_timeout=60.0)

    def is_asleep(name: str) -> bool:
        return bool(state(client, name)["state"] == "asleep")

    def tell(name: str, verb: str) -> None:
        """By the command once, which takes a second of a core to start."""
        if name == "resident":
            words = ["pin", *(["--off"] if verb == "unpin" else []), name]
            assert up.run(*words).returncode == 0
        else:
            client.post(f"/v2/repository/models/{name}/{verb}").raise_for_status()

    for name in ("resident", "apart"):
        wait_until(lambda name=name: is_asleep(name))
        server.load_model(name)
        tell(name, "pin")
        assert state(client, name)["kept"]
        assert state(client, name)["pinned"]
        with pytest.raises(InferenceServerException, match="pinned"):
            server.unload_model(name)

    def all_ready() -> bool:
        states = {entry["name"]: entry["state"] for entry in server.get_model_repository_index()}
        return states["resident"] == states["apart"] == "READY"

    wait_until(all_ready)  # a host's report comes a moment after its answer
    client.post("/v2/models/resident", json={"name": "a"}).raise_for_status()
    client.post("/v2/models/apart", json={"name": "a"}).raise_for_status()
    for name in ("resident", "apart"):
        tell(name, "unpin")
        assert not state(client, name)["kept"]
        assert not state(client, name)["pinned"]
        wait_until(lambda name=name: is_asleep(name))
    server.load_model("resident")
    server.unload_model("resident")
    assert is_asleep("resident")
    answer = client.post("/v2/models/resident", json={"name": "b"})  # a call wakes it
    assert answer.json()["said"] == "b"
    unknown: httpx.Response = client.post("/v2/repository/models/risident/load")
    assert (unknown.status_code, "did you mean" in unknown.json()["error"]) == (404, True)
    server.close()
