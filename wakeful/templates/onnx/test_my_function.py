"""Stages are functions; `serve` shows what a caller gets, the model included."""

import json
from pathlib import Path

import numpy as np
from my_function import measure, name_species

from wakeful.testing import serve

FOLDER = Path(__file__).parent


def test_measurements_are_in_the_order_of_the_model():
    assert measure(5.0, 3.0, 1.5, 0.25).tolist() == [5.0, 3.0, 1.5, 0.25]


def test_the_likeliest_species_is_named():
    answer = name_species(np.array([0.1, 0.75, 0.15], np.float32))
    assert answer == {"species": "versicolor", "probability": 0.75}


def test_the_request_is_answered():
    request = json.loads((FOLDER / "request.json").read_text())
    with serve(FOLDER / "serve_config.yaml") as app:
        assert app["my-function"](**request)["species"] == "setosa"
