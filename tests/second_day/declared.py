"""Mistakes that `wakeful check` sees, by the numbers of the list that they were met in."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

from tests.second_day.projects import CONFIG, HEAD, ONE, PYTHON, YAML, Project, stage


class Mistake(NamedTuple):
    """What was typed, and what is to be said.

    Attributes:
        title: number and words.
        project: with the mistake in it.
        where: file and line, or a part of the message that names the place; empty: none is named.
        words: of the message; they say what to write instead.
        status: of the command: 2 refused, 0 a warning, or nothing wrong.
    """

    title: str
    project: Project
    where: str
    words: tuple[str, ...]
    status: int = 2


def right(title: str, project: Project, *words: str) -> Mistake:
    """What is no mistake, and must pass, with what is to be printed of it."""
    return Mistake(title, project, "", ("nothing wrong", *words), 0)


def warned(title: str, project: Project, where: str, *words: str) -> Mistake:
    """What serves, and was probably not meant so."""
    return Mistake(title, project, where, ("warning", *words), 0)


EXAMPLE = "      example: {a: 5.1, b: 3.5, c: 1.4, d: 0.2}\n"
LINES = YAML.split("applications:\n")[1]
AT = f"{CONFIG}:"


def args(text: str) -> Project:
    """Further keys of the right function, before its example."""
    return Project(swap={"      example:": f"      {text}\n      example:"})


F = "def f(x: int) -> int:\n    return x\n"

MISTAKES = (
    right("00 right", Project(), "a: float", "species: str"),
    Mistake("01 unknown key", Project(swap={"example:": "exampel:"}), AT + "8", ("example?",)),
    Mistake(
        "02 wrong type",
        args("batching: {max_batch_size: lots}"),
        AT + "8",
        ("'lots'", "an integer is wanted"),
    ),
    Mistake("03 negative", args("limits: {request_timeout_s: -1}"), AT + "8", ("more than 0",)),
    Mistake("04 a unit", args("limits: {request_timeout_s: 10s}"), AT + "8", ("a number",)),
    Mistake(
        "05 a misspelt import",
        Project(swap={"import numpy as np\n": "import numpy as np\nimport sklearnn\n"}),
        "iris.py:5",
        ("No module named 'sklearnn'",),
    ),
    Mistake(
        "06 a dependency that is missing",
        Project(swap={"import numpy as np\n": "import numpy as np\nimport fitz\n"}),
        "iris.py:5",
        ("No module named 'fitz'", "pip install pymupdf"),
    ),
    Mistake(
        "07 functions in a circle",
        Project(
            "applications:\n"
            "  - {name: a, args: {graph: [{stage: x, function: b}]}}\n"
            "  - {name: b, args: {graph: [{stage: y, function: a}]}}\n"
        ),
        AT + "2",
        ("a → b → a", "Take one of the calls out"),
    ),
    Mistake(
        "08 a stage below the one that needs it",
        Project(
            YAML.replace(
                '        - {stage: measurements, python: "iris:measure"}\n'
                "        - {stage: model, onnx: iris.onnx}\n",
                "        - {stage: model, onnx: iris.onnx}\n"
                '        - {stage: measurements, python: "iris:measure"}\n',
            ).replace(EXAMPLE, "")
        ),
        AT + "6",
        ("'measurements'", "move 'measurements' above 'model'"),
    ),
    Mistake("09 two functions of one name", Project(YAML + LINES), AT + "9", ("'iris'", "line 2")),
    Mistake(
        "10 two stages of one name",
        Project(swap={"stage: answer": "stage: model"}),
        AT + "7",
        ("'model'", "a name of its own"),
    ),
    Mistake(
        "11 another dtype",
        Project(
            swap={
                "Four = Annotated[NDArray[np.float32]": "Four = Annotated[NDArray[np.float64]",
            }
        ),
        AT + "6",
        ("FP64", "FP32", "Annotated[NDArray[np.float32], Shape(4)]"),
    ),
    Mistake(
        "12 with: another type",
        Project(swap={"digits: 3": "digits: three"}),
        AT + "7",
        ("'three' is a string, an integer is wanted",),
    ),
    Mistake(
        "13 with: an argument is missing",
        Project(swap={"labels: labels.txt, ": ""}),
        AT + "7",
        ("labels",),
    ),
    Mistake(
        "14 with: on a function",
        Project(swap={'"iris:measure"}': '"iris:measure", with: {x: 1}}'}),
        AT + "5",
        ("is a function", "__init__"),
    ),
    right("15 without an example", Project(swap={EXAMPLE: ""}), "no answer is tried", "example:"),
    Mistake(
        "16 an example of another type",
        Project(swap={"a: 5.1": "a: five"}),
        AT + "8",
        ("valid number", "'five' is given, a string"),
    ),
    Mistake(
        "17 no return annotation",
        Project(swap={"-> Iris:": ":"}),
        AT + "7",
        ("no return annotation", "-> float"),
    ),
    Mistake(
        "18 *args",
        Project(
            swap={"def measure(a: float, b: float, c: float, d: float)": "def measure(*a: float)"}
        ),
        AT + "5",
        ("`a: T`",),
    ),
    Mistake(
        "19 a module of the standard library",
        Project(swap={"iris:measure": "json:dumps"}),
        AT + "5",
        ("standard library",),
    ),
    Mistake(
        "20 a method", Project(swap={"iris:Name": "iris:Name.__call__"}), AT + "7", ("module",)
    ),
    Mistake(
        "21 a path", Project(swap={"iris:measure": "./iris.py:measure"}), AT + "5", ("module",)
    ),
    right(
        "22 an object that can be called",
        Project(
            YAML.replace('"iris:Name", with: {labels: labels.txt, digits: 3}', '"iris:thing"'),
            PYTHON + "\n\nthing = Name(Path('labels.txt'))\n",
        ),
    ),
    Mistake(
        "23 text instead of a model",
        Project(files={"iris.onnx": "hello"}),
        AT + "6",
        ("no ONNX model: it is text",),
    ),
    Mistake("24 an empty file", Project(""), AT + "1", ("empty", "applications:")),
    Mistake("25 a list", Project("- name: iris\n"), AT + "1", ("a mapping",)),
    Mistake(
        "26 python and onnx",
        Project(swap={"onnx: iris.onnx": 'onnx: iris.onnx, python: "iris:measure"'}),
        AT + "6",
        ("`python` and `onnx`", "two stages"),
    ),
    Mistake(
        "27 a prefix twice",
        Project(YAML + LINES.replace("name: iris", "name: two\n    route_prefix: /v2/models/iris")),
        AT + "10",
        ("route_prefix of", "line 2"),
    ),
    Mistake(
        "28 a name with a space",
        Project(swap={"name: iris": "name: my iris!"}),
        AT + "2",
        ("letters",),
    ),
    right(
        "29 a union without a default",
        Project(swap={"d: float)": "d: float | None)"}),
        "d: float | None",
    ),
    Mistake(
        "30 a key twice",
        args("example: {a: 1, b: 1, c: 1, d: 1}"),
        AT + "9",
        ("example",),
    ),
    Mistake("31b comments alone", Project("# nothing\n"), AT + "1", ("empty",)),
    right("31c no applications", Project("applications: []\n")),
    Mistake(
        "31d another tool's file",
        Project("services:\n  iris:\n    onnx: iris.onnx\n"),
        AT + "1",
        ("`applications`",),
    ),
    Mistake(
        "33 a tab", Project(swap={"      example:": "\texample:"}), AT + "8", ("a tab", "spaces")
    ),
    warned(
        "42 an await that is missing",
        stage(
            "async def g() -> int:\n    return 1\n\n\nasync def f(x: int) -> int:\n    return g()\n"
        ),
        AT + "5",
        "iris.py:12",
        "`return await g(…)`",
    ),
    Mistake(
        "49 a generator without Iterator",
        stage("def f(x: int) -> int:\n    for i in range(x):\n        yield i\n"),
        AT + "5",
        ("'-> Iterator[T]'",),
    ),
    Mistake(
        "50 an asynchronous generator annotated Iterator",
        stage("async def f(x: int) -> Iterator[int]:\n    for i in range(x):\n        yield i\n"),
        AT + "5",
        ("'-> AsyncIterator[T]'",),
    ),
    right(
        "51 an iterator that is returned",
        stage("def f(x: int) -> Iterator[int]:\n    return (i for i in range(x))\n"),
        "streams s: int",
    ),
    Mistake(
        "52 a coroutine that returns an asynchronous iterator",
        stage("async def f(x: int) -> AsyncIterator[int]:\n    return x\n"),
        AT + "5",
        ("let it yield",),
    ),
    Mistake(
        "53 a stage yields in the middle",
        stage(
            "def f(x: int) -> Iterator[int]:\n    yield x\n\n\ndef g(s: int) -> int:\n    return s\n",
            more='        - {stage: t, python: "iris:g"}\n',
        ),
        AT + "5",
        ("'t' comes behind it", "return a list here"),
    ),
    Mistake(
        "54 Rows of one of two",
        stage("def f(x: Rows[int], y: int) -> Rows[int]:\n    return x\n"),
        AT + "5",
        ("annotate it as Rows[...]",),
    ),
    Mistake(
        "55 Rows in, one out",
        stage("def f(x: Rows[int]) -> int:\n    return sum(x)\n"),
        AT + "5",
        ("'-> Rows[...]'",),
    ),
    Mistake(
        "57 a class without __call__",
        stage("class f:\n    def __init__(self) -> None:\n        pass\n"),
        AT + "5",
        ("no __call__",),
    ),
    Mistake(
        "58 a class with predict",
        stage("class f:\n    def predict(self, x: int) -> int:\n        return x\n"),
        AT + "5",
        ("no __call__",),
    ),
    Mistake(
        "77 a secret that is not there",
        Project(
            ONE.replace('"iris:f"}', '"iris:f", with: {key: "${SECOND_DAY_KEY}"}}'),
            HEAD + "class f:\n    def __init__(self, key: str) -> None:\n        self.key = key\n\n"
            "    def __call__(self, x: int) -> int:\n        return x\n",
        ),
        AT + "5",
        ("SECOND_DAY_KEY", "--secrets"),
    ),
    Mistake(
        "80 a tuple without annotation",
        stage("def f(x: int):\n    return x, 1\n"),
        AT + "5",
        ("no return annotation",),
    ),
    Mistake(
        "83 the request",
        stage(
            "from starlette.requests import Request\n\n\nasync def f(request: Request) -> int:\n    return 1\n"
        ),
        AT + "5",
        ("A stage has no request", 'Header("x-name")'),
    ),
    Mistake(
        "84 a table",
        stage("import narwhals as nw\n\n\ndef f(df: nw.DataFrame) -> int:\n    return 1\n"),
        AT + "5",
        ("`df: list[Row]`", "class Row(TypedDict)"),
    ),
    Mistake(
        "84 pandas",
        stage("import pandas as pd\n\n\ndef f(df: pd.DataFrame) -> int:\n    return 1\n"),
        *(
            (AT + "5", ("`df: list[Row]`", "class Row(TypedDict)"))
            if find_spec("pandas")
            else ("iris.py:7", ("No module named 'pandas'", "pip install pandas"))
        ),
    ),
    Mistake(
        "85 a type that the module lacks",
        stage('def f(x: "Nope") -> int:\n    return 1\n'),
        AT + "5",
        ("'Nope'",),
    ),
    Mistake(
        "85b a picture",
        stage("from PIL import Image\n\n\ndef f(image: Image.Image) -> int:\n    return 1\n"),
        AT + "5",
        ("`image: bytes`", "Image.open(io.BytesIO(image))"),
    ),
    *(
        warned(
            f"87 a module with the name of {title}",
            stage(F, **{f"{name}.py": "x = 1\n"}),
            f"{name}.py",
            f"Rename it, {name}_",
        )
        for name, title in (("numpy", "a package"), ("random", "one of Python's"))
    ),
    warned(
        "88 a module with the name of a package of ours",
        stage(F, **{"runtime.py": "x = 1\n"}),
        "runtime.py",
        "Rename it",
    ),
    Mistake(
        "93 return in an asynchronous generator",
        stage("async def f(x: int) -> AsyncIterator[int]:\n    return [1, 2]\n"),
        AT + "5",
        ("let it yield",),
    ),
    Mistake(
        "94 yields, annotated as a list",
        stage("def f(x: int) -> list[int]:\n    yield from range(x)\n"),
        AT + "5",
        ("'-> Iterator[T]'",),
    ),
    Mistake(
        "96 Rows and a stream",
        stage("def f(x: Rows[int]) -> Iterator[int]:\n    yield 1\n"),
        AT + "5",
        ("without Rows",),
    ),
    Mistake(
        "98 a State without sequences",
        stage(
            "from wakeful import State\n\n\nclass R(TypedDict):\n    n: int\n    seen: int\n\n\n"
            'def f(x: int, seen: State[int]) -> R:\n    return {"n": x, "seen": 1}\n'
        ),
        AT,
        ("sequences: {}",),
    ),
    Mistake(
        "99 a State that is not given back",
        stage(
            "from wakeful import State\n\n\ndef f(x: int, seen: State[int]) -> int:\n    return 1\n",
            args="      sequences: {}\n",
        ),
        AT,
        ("'seen'",),
    ),
    Mistake(
        "102 a misspelt parameter",
        stage(
            "def f(x: int) -> int:\n    return x\n\n\ndef g(ss: int) -> int:\n    return ss\n",
            more='        - {stage: t, python: "iris:g"}\n',
        ),
        AT + "6",
        ("did you mean 's'?", "'inputs: {ss: ss}'"),
    ),
    Mistake(
        "103 when: no truth value",
        stage(
            F + "\n\ndef g(x: int) -> int:\n    return x\n",
            more='        - {stage: t, python: "iris:g", when: s}\n',
        ),
        AT + "6",
        ("bool",),
    ),
    Mistake(
        "104 each: over text",
        stage(
            'def f(x: int) -> str:\n    return "abc"\n\n\ndef g(s: str) -> int:\n    return 1\n',
            more='        - {stage: t, python: "iris:g", each: s}\n',
        ),
        AT + "6",
        ("'s'", "list"),
    ),
    Mistake(
        "105 a function that is not there",
        stage(F, more="        - {stage: t, function: irs}\n"),
        AT + "6",
        ("did you mean 'iris'?",),
    ),
    Mistake(
        "108 a model by its address",
        Project(
            'applications:\n  - {name: iris, args: {onnx: "https://example.com/model.onnx"}}\n'
        ),
        AT + "2",
        ("https",),
    ),
    Mistake(
        "108b a model by an address that others can answer",
        Project('applications:\n  - {name: iris, args: {onnx: "http://example.com/model.onnx"}}\n'),
        AT + "2",
        ("`sha256:`", "`wakeful models pull`"),
    ),
    Mistake(
        "109 a model of a hub without its commit",
        Project(
            "applications:\n"
            "  - {name: iris, args: {model: sentence-transformers/all-MiniLM-L6-v2, task: embedding}}\n"
        ),
        AT + "2",
        ("wakeful add",),
    ),
    Mistake(
        "110 a PyTorch file as a model",
        Project(
            "applications:\n  - {name: iris, args: {onnx: m.pt}}\n",
            files={"m.pt": b"PK\x03\x04abc"},
        ),
        AT + "2",
        ("'m.pt' does not end with .onnx", "torch.onnx.export"),
    ),
    Mistake(
        "110 a PyTorch file under a model's name",
        Project(
            "applications:\n  - {name: iris, args: {onnx: m.onnx}}\n",
            files={"m.onnx": b"PK\x03\x04abc"},
        ),
        AT + "2",
        ("no ONNX model: it is a zip archive, as PyTorch", "torch.onnx.export"),
    ),
    Mistake(
        "111 without args",
        Project(
            ONE.replace("    args:\n      graph:\n", "    graph:\n").replace(
                "        - ", "      - "
            )
        ),
        AT + "3",
        ("belongs under args",),
    ),
    Mistake(
        "112 stages instead of graph",
        Project(ONE.replace("graph:", "stages:").replace("stage: s", "name: s")),
        AT + "4",
        ("`graph`",),
    ),
    Mistake(
        "113 functions instead of applications",
        Project(ONE.replace("applications:", "functions:")),
        AT + "1",
        ("`applications`",),
    ),
    Mistake(
        "114 quantize of a graph",
        Project("applications:\n  - {name: iris, args: {onnx: iris.onnx, quantize: int8}}\n"),
        AT + "2",
        ("`model`",),
    ),
    Mistake(
        "115 a variable in a path",
        Project('applications:\n  - {name: iris, args: {onnx: "${MODEL}"}}\n'),
        AT + "2",
        ("MODEL",),
    ),
    Mistake(
        "116 a reference without its colon",
        Project(ONE.replace("iris:f", "iris.f"), HEAD + F),
        AT + "5",
        ("package.module:attribute",),
    ),
    right("117 a reference without quotes", Project(ONE.replace('"iris:f"', "iris:f"), HEAD + F)),
    warned(
        "125 an array of any shape into a fixed input",
        stage(
            "import numpy as np\nfrom numpy.typing import NDArray\n\n\n"
            "def f(x: int) -> NDArray[np.float32]:\n    return np.zeros(x, np.float32)\n",
            more="        - {stage: m, onnx: iris.onnx, inputs: {measurements: s}}\n",
        ),
        AT + "6",
        "`Annotated[NDArray[np.float32], Shape(4)]`",
    ),
    warned(
        "126 a model frozen at one row",
        Project("applications:\n  - {name: iris, args: {onnx: frozen.onnx}}\n"),
        AT + "2",
        "takes one row at a time",
        "dynamic_axes={'measurements': {0: 'rows'}",
    ),
    right(
        "126 one that is meant so",
        Project(
            "applications:\n"
            "  - {name: iris, args: {graph: [{stage: m, onnx: frozen.onnx, rows: false}]}}\n"
        ),
        "nothing wrong.",
    ),
    Mistake(
        "140 keys of TLS",
        Project("http_options: {ssl_keyfile: key.pem, ssl_certfile: cert.pem}\n" + ONE, HEAD + F),
        AT + "1",
        ("cert.pem cannot be read", "No such file"),
    ),
    warned(
        "141 runtime_env",
        Project(
            ONE.replace(
                "  - name: iris\n",
                "  - name: iris\n    runtime_env: {pip: [cowsay], env_vars: {A: b}}\n",
            ),
            HEAD + F,
        ),
        AT + "3",
        "`serve deploy` applies it",
    ),
    Mistake(
        "142 more replicas than the most",
        stage(F, args="      autoscaling: {min_replicas: 2, max_replicas: 1}\n"),
        AT + "6",
        ("max_replicas",),
    ),
    warned(
        "143 logging_config",
        Project("logging_config: {log_level: DEBUG}\n" + ONE, HEAD + F),
        AT + "1",
        "docs/logging.md",
    ),
    warned(
        "144 root_path",
        Project("http_options: {root_path: /api}\n" + ONE, HEAD + F),
        AT + "1",
        "route_prefix",
    ),
    Mistake(
        "150 a file in an example",
        stage(
            "def f(image: bytes) -> int:\n    return 1\n", args='      example: {image: "@a.png"}\n'
        ),
        AT + "6",
        ("base64",),
    ),
    right(
        "101 a stage that could ask its own server",
        stage(
            "import urllib.request\n\n\ndef f(x: int) -> int:\n    if x == 0:\n        return 0\n    return 1\n"
        ),
    ),
    right("106 a GPU where there is none", stage(F, args="      resources: {num_gpus: 1}\n")),
    Mistake(
        "107 a device without its share",
        Project(
            "applications:\n  - {name: iris, args: {onnx: iris.onnx, resources: {device: cuda}}}\n"
        ),
        AT + "2",
        ("`num_gpus: 1`",),
    ),
    right(
        "146 replicas, in one process",
        stage(F, args="      autoscaling: {min_replicas: 0, max_replicas: 4}\n      tier: own\n"),
    ),
    right(
        "76 a file by its relative path",
        stage(
            'from pathlib import Path\n\nWORDS = Path("words.txt").read_text()\n\n\ndef f(x: int) -> str:\n    return WORDS\n',
            **{"words.txt": "hi"},
        ),
    ),
    right(
        "60 what hangs when it is constructed is not constructed here",
        stage(
            "class f:\n    def __init__(self) -> None:\n        time.sleep(1000)\n\n"
            "    def __call__(self, x: int) -> int:\n        return x\n"
        ),
    ),
    right(
        "150b a file by its path",
        Project(
            ONE + "      example: {image: !file a.png}\n",
            HEAD + "def f(image: bytes) -> int:\n    return len(image)\n",
            files={"a.png": b"\x89PNG\r\n\x1a\n"},
        ),
    ),
    right(
        "130 a stage that waits",
        Project(ONE.replace('"iris:f"}', '"iris:f", threads: 16}'), HEAD + F),
    ),
    Mistake(
        "175 a call of a function that is not there",
        stage(
            "from wakeful import Call\n\n\n"
            'def f(x: int, embed: Call["emebd"]) -> int:\n    return embed(x=x)\n',
            args='  - name: embed\n    args: {graph: [{stage: g, python: "iris:g"}]}\n',
        ),
        AT + "5",
        ("did you mean 'embed'?",),
    ),
    Mistake(
        "152 with: values of other types",
        Project(
            ONE.replace('"iris:f"}', '"iris:f", with: {names: a, top: 3.5}}'),
            HEAD
            + "class f:\n    def __init__(self, top: int = 3, names: list[str] = []) -> None:\n"
            "        self.names = names\n\n    def __call__(self, x: int) -> int:\n        return x\n",
        ),
        AT + "5",
        ("names",),
    ),
    right(
        "153 one class twice",
        stage(
            "class f:\n    def __init__(self, n: int = 1) -> None:\n        self.n = n\n\n"
            "    def __call__(self, x: int) -> int:\n        return x + self.n\n\n\n"
            "def g(s: int, s2: int) -> int:\n    return s + s2\n",
            more='        - {stage: s2, python: "iris:f", with: {n: 5}}\n'
            '        - {stage: t, python: "iris:g"}\n',
        ),
    ),
    right(
        "170 what may be None or be left out",
        stage(
            "from typing import NotRequired\n\n\nclass R(TypedDict):\n    worst: str | None\n"
            "    note: NotRequired[str]\n\n\n"
            'def f(x: int) -> R:\n    return {"worst": None}\n'
        ),
        "worst: str | None",
        "note: NotRequired[str]",
    ),
    right(
        "171 a stream", stage("def f(x: int) -> Iterator[int]:\n    yield x\n"), "streams s: int"
    ),
    Mistake(
        "172 a src layout",
        Project(
            ONE.replace("iris:f", "flowers.stages:f"),
            files={"src/flowers/__init__.py": "", "src/flowers/stages.py": F},
        ),
        AT + "5",
        ("WAKEFUL_ROOT=src", "pip install -e ."),
    ),
    *(
        Mistake(
            f"151 {module} is missing",
            stage(f"import {module}\n\n\n{F}"),
            "iris.py:7",
            (f"No module named '{module}'", f"pip install {package}"),
        )
        for module, package in (
            ("jwt", "pyjwt"),
            ("cv2", "opencv-python-headless"),
            ("bs4", "beautifulsoup4"),
            ("ultralytics", "ultralytics"),
        )
    ),
)
