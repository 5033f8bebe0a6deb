"""docs/first-hour.md: mistakes that a first function has, each made and its message printed.

A mistake is one change of a project that is right. ``wakeful check`` prints its message, or the log
does where only a call shows it. ``make fix`` writes the page.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from deployments.cli import main
from tests import onnx_models
from wakeful.testing import serve

CONFIG: Final = "serve_config.yaml"

STAGES: Final = "sentiment.py"

FILES: Final = {
    CONFIG: """\
applications:
  - name: sentiment
    args:
      graph:
        - {stage: counts, python: "sentiment:Count", with: {words: words.txt}}
        - {stage: model, onnx: sentiment.onnx, inputs: {x: counts}}
        - {stage: answer, python: "sentiment:answer"}
      example: {text: "Is it good?"}
      batching: {max_batch_size: 8}
""",
    STAGES: """\
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from wakeful import Rows, Shape

Counts = Annotated[NDArray[np.float32], Shape(3)]


class Answer(TypedDict):
    label: str
    score: float


class Count:
    def __init__(self, words: Path) -> None:
        self.words = words.read_text().split()

    def __call__(self, text: Rows[str]) -> Rows[Counts]:
        found = [[one.count(word) for word in self.words] for one in text]
        return np.array(found, np.float32)


def answer(y: Counts) -> Answer:
    score = float(y.sum())
    return {"label": "good" if score > 0 else "bad", "score": score}
""",
}
"""The project that is right; beside it are ``words.txt``, of three words, and ``sentiment.onnx``,
which takes ``x`` and gives ``y``.
"""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One change of the project.

    Attributes:
        title: what is wrong, in words.
        file: the file that is changed.
        right, wrong: the text that is replaced, and what stands there instead.
        place: what the message names: the file and the line.
        fix: the words of the message that say what to write.
        is_checked: whether ``wakeful check`` sees it; else the first call does.
    """

    title: str
    file: str
    right: str
    wrong: str
    place: str
    fix: str
    is_checked: bool = True


MISTAKES: Final = (
    Mistake(
        "A tab",
        CONFIG,
        "      batching",
        "\tbatching",
        f"{CONFIG}:9",
        "Indent with spaces.",
    ),
    Mistake(
        "A line that is indented otherwise than its neighbours",
        CONFIG,
        "      batching",
        "     batching",
        f"{CONFIG}:9",
        "Indent it as its neighbours are.",
    ),
    Mistake(
        "A key in the wrong place",
        CONFIG,
        "      batching",
        "    batching",
        f"{CONFIG}:9",
        "batching belongs under args.",
    ),
    Mistake(
        "A misspelt key",
        CONFIG,
        "max_batch_size",
        "max_batchsize",
        f"{CONFIG}:9",
        "did you mean max_batch_size?",
    ),
    Mistake(
        "A question without quotes",
        CONFIG,
        '"Is it good?"',
        "Is it good?",
        f"{CONFIG}:8",
        "Put it in quotes.",
    ),
    Mistake(
        "A field of the example that the function does not take",
        CONFIG,
        "{text:",
        "{txt:",
        f"{CONFIG}:8",
        "the fields are text.",
    ),
    Mistake(
        "A module that is not there",
        CONFIG,
        '"sentiment:answer"',
        '"sentimnt:answer"',
        f"{CONFIG}:7",
        "did you mean 'sentiment'?",
    ),
    Mistake(
        "A file instead of a module",
        CONFIG,
        '"sentiment:answer"',
        '"sentiment.py:answer"',
        f"{CONFIG}:7",
        "'sentiment:answer'.",
    ),
    Mistake(
        "A function that the module does not have",
        CONFIG,
        '"sentiment:answer"',
        '"sentiment:anwser"',
        f"{CONFIG}:7",
        "did you mean 'answer'?",
    ),
    Mistake(
        "An argument that `__init__` does not take",
        CONFIG,
        "{words: words.txt}",
        "{word: words.txt}",
        f"{CONFIG}:5",
        "did you mean 'words'?",
    ),
    Mistake(
        "A file of `with:` that is not there",
        CONFIG,
        "{words: words.txt}",
        "{words: word.txt}",
        f"{CONFIG}:5",
        "did you mean 'words.txt'?",
    ),
    Mistake(
        "A model that is not there",
        CONFIG,
        "onnx: sentiment.onnx",
        "onnx: sentimnt.onnx",
        f"{CONFIG}:6",
        "did you mean 'sentiment.onnx'?",
    ),
    Mistake(
        "A model's input that no stage gives",
        CONFIG,
        ", inputs: {x: counts}",
        "",
        f"{CONFIG}:6",
        "map it: 'inputs: {x: VALUE}'",
    ),
    Mistake(
        "`each` over a field of the request",
        CONFIG,
        '"sentiment:Count", with',
        '"sentiment:Count", each: text, with',
        f"{CONFIG}:5",
        "let a stage before take it and give it on",
    ),
    Mistake(
        "An import that fails",
        STAGES,
        "import numpy as np",
        "import nunpy as np",
        f"{STAGES}:4",
        "No module named 'nunpy'",
    ),
    Mistake(
        "A syntax error",
        STAGES,
        "def answer(y: Counts) -> Answer:",
        "def answer(y: Counts) -> Answer",
        f"{STAGES}:25",
        "expected ':'",
    ),
    Mistake(
        "A parameter without annotation",
        STAGES,
        "def answer(y: Counts)",
        "def answer(y)",
        f"{CONFIG}:7",
        "Write what it takes: `y: str`",
    ),
    Mistake(
        "A parameter of another type than the value",
        STAGES,
        "def answer(y: Counts)",
        "def answer(y: float)",
        f"{CONFIG}:7",
        "Write `y: Annotated[NDArray[np.float32], Shape(3)]`.",
    ),
    Mistake(
        "A shape that the model does not take",
        STAGES,
        "Shape(3)",
        "Shape(2)",
        f"{CONFIG}:6",
        "annotated `Annotated[NDArray[np.float32], Shape(3)]`.",
    ),
    Mistake(
        "A parameter with another name than the value",
        STAGES,
        "answer(y: Counts) -> Answer:\n    score = float(y.sum())",
        "answer(ys: Counts) -> Answer:\n    score = float(ys.sum())",
        f"{CONFIG}:7",
        "did you mean 'y'?",
    ),
    Mistake(
        "A stage that returns nothing",
        STAGES,
        '    return {"label"',
        '    {"label"',
        f"{STAGES}:25",
        "Answer has label, score",
        is_checked=False,
    ),
    Mistake(
        "A key that is not returned",
        STAGES,
        '"bad", "score": score}',
        '"bad"}',
        f"{STAGES}:25",
        "did not give 'score'",
        is_checked=False,
    ),
    Mistake(
        "A value of another type than declared",
        STAGES,
        '"score": score}',
        '"score": "high"}',
        f"{STAGES}:25",
        "float is declared",
        is_checked=False,
    ),
    Mistake(
        "An array of another dtype than declared",
        STAGES,
        "np.array(found, np.float32)",
        "np.array(found, np.float64)",
        f"{STAGES}:20",
        "give it .astype(np.float32)",
        is_checked=False,
    ),
    Mistake(
        "Another number of rows than was given",
        STAGES,
        "np.array(found, np.float32)",
        "np.array(found[:-1], np.float32)",
        f"{STAGES}:20",
        "it must give as many",
        is_checked=False,
    ),
    Mistake(
        "An exception",
        STAGES,
        "float(y.sum())",
        "float(y.total())",
        f"{STAGES}:26",
        "'numpy.ndarray' object has no attribute 'total'",
        is_checked=False,
    ),
)


@contextlib.contextmanager
def project(mistake: Mistake | None) -> Iterator[Path]:
    """A folder with the project, the mistake made, that is worked in; its module is imported
    anew.
    """
    path = list(sys.path)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name).resolve()
        for file, text in FILES.items():
            (folder / file).write_text(changed(text, mistake, file))
        (folder / "words.txt").write_text("good fine nice\n")
        onnx_models.double(folder / "sentiment.onnx")
        try:
            yield folder
        finally:
            sys.path[:] = path
            sys.modules.pop("sentiment", None)


def changed(text: str, mistake: Mistake | None, file: str) -> str:
    """A file of the project with the mistake in it."""
    if mistake is None or mistake.file != file:
        return text
    assert text.count(mistake.right) == 1, mistake.title
    return text.replace(mistake.right, mistake.wrong)


def message_of(mistake: Mistake | None) -> str:
    """What Wakeful says to the project; empty to the one that is right."""
    with project(mistake) as folder:
        if mistake is None or mistake.is_checked:
            result = CliRunner().invoke(main, ["check"])
            said = result.output if result.exit_code else ""
        else:
            said = _logged()
    said = said.replace(str(folder), "~/sentiment").strip()
    return re.sub(r"in ~/sentiment(, /[^ ,]+)*,", "in ~/sentiment,", said)  # and what Python has


def _logged() -> str:
    """What the log has after the first call."""
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    logger, keep = logging.getLogger("wakeful"), Keep(logging.WARNING)
    was_disabled = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    logger.addHandler(keep)
    try:
        with serve(CONFIG) as app, contextlib.suppress(Exception):
            app.sentiment(text="good")
    finally:
        logger.removeHandler(keep)
        logging.disable(was_disabled)
    return "\n".join(records)


HEAD = """\
# The first hour

Mistakes that a first function has, and what Wakeful says to each: the file, the line, and what to write. `wakeful check` finds
most before anything runs. The rest are found when the function loads, if it declares an `example:`; they are in the log of `wakeful run`.

This page is written by `python -m tests.regenerate`, which makes every mistake; a test fails when it is not up to date.

The project that is right has a model `sentiment.onnx`, a file `words.txt` and these two:
"""


def page() -> str:
    """The page."""
    files = [f"`{name}`\n\n```{_language(name)}\n{text}```\n" for name, text in FILES.items()]
    return "\n".join([HEAD, *files, *map(_section, MISTAKES)])


def _section(mistake: Mistake) -> str:
    before, after = (
        changed(FILES[mistake.file], made, mistake.file).splitlines() for made in (None, mistake)
    )
    pairs = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    difference = "\n".join(f"-{was}\n+{now}" for was, now in pairs)
    return (
        f"## {mistake.title}\n\n```diff\n{difference}\n```\n\n```text\n{message_of(mistake)}\n```\n"
    )


def _language(name: str) -> str:
    return {"py": "python", "yaml": "yaml"}[name.rpartition(".")[2]]
