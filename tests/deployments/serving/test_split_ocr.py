"""The shipped `ocr` on a real page: its recogniser in one process with the rest, and in a
deployment of its own, on Ray.
"""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.deployments.projects import HOST, Standing
from tests.deployments.serving.test_split_stages import state
from tests.deployments.serving.test_split_stages import up as served

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.full]


def test_a_page_is_read_the_same_in_one_process_and_in_two(
    standing: Standing, models: Path, root: Path
) -> None:
    """Seven lines, to the character, and every number within 1e-4."""
    declared = YAML(typ="safe").load((root / "serve_config.yaml").read_text())
    shipped = next(one for one in declared["applications"] if one["name"] == "ocr")
    applications = []
    for way in ("fused", "split"):
        one = copy.deepcopy({**shipped, "name": way, "route_prefix": f"/v2/models/{way}"})
        one["args"]["autoscaling"] = {"min_replicas": 1}
        recognise = next(stage for stage in one["args"]["graph"] if stage["stage"] == "recognise")
        if way == "fused":
            del recognise["deployment"]
        else:
            recognise["deployment"] |= {"min_replicas": 1}
        applications.append(f"  - {json.dumps(one)}\n")  # JSON is YAML
    shutil.copytree(models / "ocr", standing.folder / "models" / "ocr")
    with served(standing, *HOST, *applications) as client:
        page = (models / "ocr" / "sample.png").read_bytes()
        answers = [
            client.post(f"/v2/models/{way}", content=page, headers={"content-type": "image/png"})
            for way in ("fused", "split")
        ]
        assert [answer.status_code for answer in answers] == [200, 200], [
            answer.text[:300] for answer in answers
        ]
        fused, split = (answer.json()["lines"] for answer in answers)
        assert [line["text"] for line in fused] == [line["text"] for line in split]
        assert len(fused) == 7
        for one, other in zip(fused, split, strict=True):
            assert one["box"] == other["box"]
            assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)
        assert state(client, "split.recognise")["state"] == "ready"
