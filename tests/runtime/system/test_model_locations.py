"""Addresses of models: what each names, and that none has a secret in it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtime.declaration.stage_spec import StageSpec
from runtime.system.model_locations import (
    MlflowLocation,
    ObjectLocation,
    has_credentials,
    parse_location,
    without_credentials,
)


@pytest.mark.parametrize(
    ("reference", "location"),
    [
        ("s3://bucket/a/m.onnx", ObjectLocation("s3", "bucket", "a/m.onnx")),
        ("gs://bucket/m.onnx", ObjectLocation("gs", "bucket", "m.onnx")),
        ("https://host:8443/a/m.onnx", ObjectLocation("https", "host:8443", "a/m.onnx")),
        ("http://[::1]:80/m.onnx", ObjectLocation("http", "[::1]:80", "m.onnx")),
        ("mlflow:models:/churn/3", MlflowLocation("churn", "3", "", "model.onnx")),
        ("mlflow:models:/churn/3/a/m.onnx", MlflowLocation("churn", "3", "", "a/m.onnx")),
        ("mlflow:runs:/0a1b/model/m.onnx", MlflowLocation("", "", "0a1b", "model/m.onnx")),
        ("models/m.onnx", None),
        ("ftp://host/m.onnx", None),
        ("mlflow:models:/churn@champion", None),
    ],
)
def test_an_address_names_a_file(
    reference: str, location: ObjectLocation | MlflowLocation | None
) -> None:
    """Of a web server, a bucket, a registry or a run."""
    assert parse_location(reference) == location
    if location is not None and not reference.startswith("mlflow:models:/churn/3"):
        assert str(location) == reference


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("no address", "no address"),
        (
            "cannot GET https://u:p@h/a?X=1#f, sorry?",
            "cannot GET https://h/a sorry?",
        ),
        ("s3://bucket/key?", "s3://bucket/key"),
        ("what? https://h/a", "what? https://h/a"),
    ],
)
def test_what_other_programs_say_is_stripped(text: str, bare: str) -> None:
    """Of users, queries and fragments."""
    assert without_credentials(text) == bare


SECRET = st.text(string.ascii_letters + string.digits, min_size=12, max_size=16)


@given(
    secret=SECRET,
    form=st.sampled_from(
        [
            "https://{0}@host/m.onnx",
            "https://user:{0}@host/m.onnx",
            "https://{0}:@host/m.onnx",
            "https://host/m.onnx?{0}",
            "https://host/m.onnx?a={0}&b=1",
            "https://host/m.onnx#{0}",
            "https://host/?x={0}/m.onnx",
            "s3://{0}:x@bucket/m.onnx",
            "s3://bucket/m.onnx?versionId={0}",
            "https://[{0}@host/m.onnx",
            "HTTPS://user:{0}@host/m.onnx",
            "mlflow:models:/n/1/m.onnx?token={0}",
            "https://user:{0}@host",
        ]
    ),
)
def test_an_address_with_a_secret_is_not_repeated(secret: str, form: str) -> None:
    """In whatever place of it the secret stands: the refusal has none of it."""
    reference = form.format(secret)
    assert has_credentials(reference)
    with pytest.raises(ValidationError) as refused:
        StageSpec(stage="a", onnx=reference)
    assert all(secret not in error["msg"] for error in refused.value.errors())
