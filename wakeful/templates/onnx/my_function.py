"""The stages of my-function around its model, model.onnx: what goes in, and what comes out."""

from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray

from wakeful import Shape

SPECIES = ("setosa", "versicolor", "virginica")

Measurements = Annotated[NDArray[np.float32], Shape(4)]
Probabilities = Annotated[NDArray[np.float32], Shape(3)]


class Iris(TypedDict):
    species: str
    probability: float


def measure(
    sepal_length: float, sepal_width: float, petal_length: float, petal_width: float
) -> Measurements:
    """The model's input, of one flower in centimetres. Rows of many calls share a run of it."""
    return np.array([sepal_length, sepal_width, petal_length, petal_width], np.float32)


def name_species(probabilities: Probabilities) -> Iris:
    """The likeliest species."""
    best = int(probabilities.argmax())
    return {"species": SPECIES[best], "probability": round(float(probabilities[best]), 3)}
