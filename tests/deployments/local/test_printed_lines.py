"""The line that `wakeful run` prints for each function, typed into a shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from tests import onnx_models, serving

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow

STAGES = """\
import datetime
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Header, Rows, Shape, State


class Color(Enum):
    RED = "red"


@dataclass
class Box:
    x: int
    color: Color


class Point(NamedTuple):
    x: float
    y: float


class Item(TypedDict):
    part: int


class Seen(TypedDict):
    seen: int
    text: str


class Options(TypedDict):
    steps: Annotated[int, Field(ge=5)]
    note: NotRequired[str]


def a_text(text: str) -> str: return text
def b_none(text: str = "x") -> str: return text
def c_image(image: bytes) -> int: return len(image)
def d_image_and_more(image: bytes, k: int, note: str, mask: bytes | None = None) -> int: return k
def e_images(images: list[bytes]) -> int: return len(images)
def f_dataclass(box: Box) -> int: return box.x
def g_point(point: Point, when: datetime.datetime, day: datetime.date) -> float: return point.x
def h_options(options: Options, which: Literal["b", "c"]) -> int: return options["steps"]
def i_array(x: Annotated[NDArray[np.float32], Shape(3, 224, 224)]) -> float: return float(x.sum())
def j_free(x: Annotated[NDArray[np.int64], Shape(-1, 4)]) -> int: return len(x)
def k_header(text: str, tenant: Annotated[str, Header("x-tenant")]) -> str: return tenant
def l_example(text: str, team: Annotated[str, Header("x-team", example="it's us")]) -> str:
    return team
def m_sequence(text: str, seen: State[int]) -> Seen: return {"seen": (seen or 0) + 1, "text": text}
def n_bounds(n: Annotated[int, Field(gt=10, lt=20)], x: Annotated[float, Field(ge=0, lt=1)]) -> int:
    return n
def o_rows(text: Rows[str]) -> Rows[str]: return text
def p_stream(text: str) -> Iterator[Item]: yield {"part": len(text)}
def q_odd(amount: Decimal, key: uuid.UUID, tags: set[str], pair: tuple[int, str]) -> str:
    return str(amount)
def r_any(anything: Any) -> str: return str(anything)
def s_nested(boxes: list[Box], by_name: dict[str, float]) -> int: return len(boxes)
def t_two(left: bytes, right: bytes) -> int: return len(left)
def u_quotes(text: str) -> str: return text
def v_file(image: bytes, label: str) -> str: return f"{len(image)} {label}"
def w_text(text: str) -> str: return text
def x_whole(text: str, k: int) -> str: return text * k
def y_flag(flag: bool, ratio: float, color: Color) -> bool: return flag
def z_optional(text: str | None, k: int | None = None) -> bool: return text is None
"""

EXAMPLES = {
    "b_none": "{}",
    "e_images": "{images: [!file sample.png, !file sample.png]}",
    "m_sequence": "{text: a}\n      sequences: {}",
    "u_quotes": '{text: "it\'s \\"so\\"; $HOME `x` \\\\ @x\\n!"}',
    "v_file": "{image: !file \"a, b;c.png\", label: '@x;type=y'}",
    "w_text": "{text: !file note.txt}",
    "x_whole": "!file row.json",
}
"""What some of them declare; of the others a row is made up."""

MORE = """\
  - name: model
    args: {onnx: double.onnx}
"""


def project(folder: Path) -> Path:
    """With a function for each signature."""
    (folder / "signatures_of_a_test.py").write_text(STAGES)
    for name in ("sample.png", "a, b;c.png"):
        shutil.copy(ROOT / "wakeful" / "templates" / "image" / "sample.png", folder / name)
    (folder / "note.txt").write_text("größer\nzwei\n", encoding="utf-8")
    (folder / "row.json").write_text('{"text": "a",\n "k": 3}')
    onnx_models.double(folder / "double.onnx")
    names = re.findall(r"^def (\w+)", STAGES, re.MULTILINE)
    functions = "".join(
        f"  - name: {name}\n    args:\n"
        f'      graph: [{{stage: s, python: "signatures_of_a_test:{name}"}}]\n'
        + (f"      example: {EXAMPLES[name]}\n" if name in EXAMPLES else "")
        for name in names
    )
    file = folder / "serve_config.yaml"
    file.write_text(f"applications:\n{functions}{MORE}")
    return file


def lines_of(printed: str) -> dict[str, str]:
    """The line of each function."""
    return dict(re.findall(r"^(\S+)\n  ((?:curl|python3) .*)$", printed, re.MULTILINE))


def type_line(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a shell, as a reader would."""
    failing = line.replace("curl ", "curl --silent --show-error --fail-with-body --max-time 30 ", 1)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {failing}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_line_of_each_signature_is_a_call(tmp_path, monkeypatch):
    """As it stands, where FILE is a file; none asks for the metadata instead."""
    monkeypatch.chdir(tmp_path)
    file = project(tmp_path)
    (tmp_path / "FILE").write_bytes((tmp_path / "sample.png").read_bytes())
    log = tmp_path / "log"
    names = [spec.name for spec in read(file).functions]
    done: dict[str, str] = {}
    for half in (names[:14], names[14:]):  # as many as are printed
        text = file.read_text()
        head, *functions = re.split(r"(?m)^(?=  - name: )", text)
        part = tmp_path / "part.yaml"
        part.write_text(head + "".join(one for one in functions if one.split()[2] in half))
        with serving.run(part, root=tmp_path, log=log) as url:
            printed = log.read_text()
            lines = lines_of(printed)
            assert list(lines) == half, printed
            assert f"{url}/console" in printed
            for name, line in lines.items():
                answered = type_line(line, tmp_path)
                assert answered.returncode == 0, f"{line}\n{answered.stdout}{answered.stderr}"
                assert "-d " in line or "-F " in line or "--form-string" in line or "@" in line, (
                    line
                )
                done[name] = answered.stdout
    assert json.loads(done["u_quotes"]) == {"s": 'it\'s "so"; $HOME `x` \\ @x\n!'}
    size = (tmp_path / "sample.png").stat().st_size
    assert json.loads(done["v_file"]) == {"s": f"{size} @x;type=y"}
    assert json.loads(done["w_text"]) == {"s": "größer\nzwei\n"}
    assert json.loads(done["x_whole"]) == {"s": "aaa"}
    assert json.loads(done["l_example"]) == {"s": "it's us"}
    assert json.loads(done["e_images"]) == {"s": 2}
