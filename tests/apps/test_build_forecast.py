"""Training of the demand forecast, on purchases whose answer is known."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import onnxruntime as ort
import pytest

from apps.forecast import HORIZON, features

pytestmark = pytest.mark.slow

SATURDAY = 5


def test_a_weekly_rhythm_is_learnt(tmp_path):
    """32 customers each buy 1 to 9 units every Saturday: the model expects Saturdays, and the
    report that it beats the mean.
    """
    # scikit-learn takes half a second to import, which `make check` need not
    from apps.build.forecast import FIRST_DAY, LAST_DAY, build

    days = [FIRST_DAY + timedelta(days=n) for n in range((LAST_DAY - FIRST_DAY).days + 1)]
    units = np.random.default_rng(0).integers(1, 10, (len(days), 32))
    lines = [
        f" {customer:05d} {day:%Y%m%d} {units[n, customer]} 9.99"
        for n, day in enumerate(days)
        for customer in range(32)
        if day.weekday() == SATURDAY
    ]
    (tmp_path / "purchases.txt").write_text("\n".join(["customer date units dollars", *lines]))
    remarks = []
    build(tmp_path, tmp_path, remarks.append)

    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    until_friday = [7.0, 0, 0, 0, 0, 0, 0] * 4  # Saturday to Friday
    (ratios,) = session.run(None, {"features": features(until_friday)["features"][None]})
    assert set(np.argsort(ratios[0])[-2:]) == {0, 7}
    assert ratios[0, :HORIZON].sum() > 5

    assert remarks == [(tmp_path / "report.md").read_text()]
    rows = [
        line.split("|") for line in remarks[0].splitlines() if line.startswith("| ") and "%" in line
    ]
    errors = {row[1].strip(): float(row[2].strip().rstrip("%")) for row in rows}
    assert errors["this model"] < errors["mean of the last 28 days"]
