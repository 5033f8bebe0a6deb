"""Makes what `wakeful new` puts into a project beside text: the model of its `onnx` template, and
the picture of its `image` template.

    python -m apps.build.iris

The model is a logistic regression on Fisher's irises (scikit-learn's copy; public domain), float32,
opset 17: ``measurements`` [rows, 4], centimetres, to ``probabilities`` [rows, 3]. Standardising is
folded into its weights. It is written with ``onnx``, so a project with it needs neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

TEMPLATES: Final = Path(__file__).parents[2] / "wakeful" / "templates"


def iris_model() -> bytes:
    """The model, trained now."""
    from onnx import TensorProto, checker, helper, numpy_helper
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    flowers, species = load_iris(return_X_y=True)
    scaler = StandardScaler().fit(flowers)
    fitted = LogisticRegression().fit(scaler.transform(flowers), species)
    weights = fitted.coef_ / scaler.scale_
    bias = fitted.intercept_ - weights @ scaler.mean_
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["measurements", "weights", "bias"], ["scores"], transB=1),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "iris",
        [helper.make_tensor_value_info("measurements", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 3])],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="wakeful"
    )
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def sample_picture() -> bytes:
    """PNG, 32 by 24 pixels: red grows to the right, green downwards, blue is even."""
    from io import BytesIO

    from PIL import Image

    pixels = np.empty((24, 32, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 32).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 190, 24).astype(np.uint8)[:, None]
    pixels[..., 2] = 64
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    (TEMPLATES / "onnx" / "model.onnx").write_bytes(iris_model())
    (TEMPLATES / "image" / "sample.png").write_bytes(sample_picture())
