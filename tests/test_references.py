"""What docstrings and comments refer to is there: names, modules, files, options, commands."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from deployments.cli import COMMANDS
from tests.test_floors import ROOT, module_of

PACKAGES = ("wakeful", "runtime", "deployments", "apps", "loadtests", "tests")

QUOTED = re.compile(r"``([^`\n]+)``|(?<!`)`([^`\n]+)`(?!`)")
ROLE = re.compile(r":(?:func|class|mod|meth|attr|data|exc|obj):`")
DOTTED = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?")
PATH = re.compile(
    rf"(?<![\w./-])(?:{'|'.join((*PACKAGES, 'docs'))})/[\w./-]*\w(?![\w<{{*…]|/[<{{*…A-Z])"
)
OPTION = re.compile(r"--[a-z][a-z-]+")
COMMAND = re.compile(r"wakeful ([a-z]+)\b.*")
COMMENT = re.compile(r"(?:^|\s)# (.*)")
NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
OWN_ATTRIBUTE = re.compile(r"\b(?:self|cls)\.([a-zA-Z_]\w*)")
WORD = re.compile(r"[A-Za-z_]\w*")

ELSEWHERE = {
    "ARG",
    "ENV",
    "EX_TEMPFAIL",
    "Error404",
    "FastHttpUser",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "Origin",
    "PIPE_BUF",
    "Vary",
    "WORKDIR",
    "cold_PHASE",
    "cudaError_t",
    "enableServiceLinks",
    "nohup",
    "tcpi_bytes_acked",
}
"""Names of other programs that no code here writes."""

OTHERS_OPTIONS = {"--include-dashboard", "--restart"}
"""Of Ray and of Docker."""

FILES = ("csv", "json", "lock", "lua", "md", "proto", "py", "txt", "yaml")
"""Ends of names of files, which look like members of modules."""

DECLARATIONS = ("FunctionArgs", "DeclaredSpec", "FunctionSpec")
"""Classes whose fields are keys of the file, which prose writes as paths: ``limits.replay``."""

FILLERS = set(
    re.findall(
        r"\w+",
        "a all an and are as at be by every for from had ha hav how in is it its no not of on one or"
        " that the their thi thos to wa what which with",
    )
)
"""Stems of words that say nothing by themselves."""


class Reference(NamedTuple):
    """What a text refers to, and where it stands."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


@dataclass
class Source:
    """A file of code.

    Attributes:
        members: names at its top, and of each class those within, with what its methods set.
        bases: of its classes: the last names of what they are made from.
        constants: functions and constants at its top.
        words: all names of its code, and all words of its strings.
        options: those of commands, in its strings.
        imported: names that it imports from other projects, and parts of them.
        prose: docstrings and comments, with their lines.
        echoes: docstrings that say the name again.
    """

    path: Path
    module: str
    members: dict[str, set[str]] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    options: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    prose: list[tuple[int, str]] = field(default_factory=list)
    echoes: list[tuple[int, str]] = field(default_factory=list)


def read_source(path: Path) -> Source:
    """Read a file."""
    text = path.read_text()
    tree = ast.parse(text)
    source = Source(path, module_of(path))
    lines = text.splitlines()
    for node, name in _docstrings(tree):
        source.prose.append((node.lineno, str(node.value)))
        if name and _is_echo(str(node.value), name):
            source.echoes.append((node.lineno, str(node.value)))
        lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    for number, line in enumerate(lines):
        if comment := COMMENT.search(line):
            source.prose.append((number + 1, comment[1]))
            lines[number] = line[: comment.start()]
    code = "\n".join(lines)
    source.words.update(WORD.findall(code))
    source.options.update(OPTION.findall(code))
    for statement in tree.body:
        _add_members(source, statement, lines)
    return source


def _docstrings(node: ast.AST, name: str = "") -> Iterator[tuple[ast.Constant, str]]:
    """The texts that stand as statements in a module, in its classes and in their functions; each
    with what the line above it says where it is the first of a class or a function.
    """
    for place, statement in enumerate(getattr(node, "body", ())):
        match statement:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                yield text, "" if place else name
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                returned = ast.unparse(statement.returns) if statement.returns else ""
                said = f"{name} {statement.name} {ast.unparse(statement.args)} {returned}"
                yield from _docstrings(statement, said)
            case ast.ClassDef():
                yield from _docstrings(statement, f"{name} {statement.name}")
            case ast.If():
                yield from _docstrings(statement)


def _is_echo(text: str, name: str) -> bool:
    """Whether a text has no word that is not in the name; a number is one."""
    words = {_stem(word) for word in re.findall(r"[A-Za-z]+|\d+", text)} - FILLERS
    return words <= {_stem(word) for word in NAME_PART.findall(name)}


def _stem(word: str) -> str:
    return re.sub(r"(?<=...)(?:ing|e?s|ed|e)$", "", word.lower())


def _add_members(source: Source, node: ast.stmt, lines: list[str]) -> None:
    """Add what a statement at a module's top defines."""
    match node:
        case ast.ClassDef(name=name):
            inner = set(OWN_ATTRIBUTE.findall("\n".join(lines[node.lineno - 1 : node.end_lineno])))
            inner.update(*map(_defined, node.body))
            source.members[name] = inner
            source.bases[name] = [
                WORD.findall(ast.unparse(base).partition("[")[0])[-1] for base in node.bases
            ]
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            source.members |= {(one.asname or one.name).partition(".")[0]: set() for one in names}
            origin = getattr(node, "module", None) or names[0].name
            if origin.partition(".")[0] not in PACKAGES:
                source.imported.update(WORD.findall(ast.unparse(node)))
        case ast.If() | ast.Try():
            for statement in (*node.body, *node.orelse):
                _add_members(source, statement, lines)
        case _:
            names = _defined(node)
            source.members |= {name: set() for name in names}
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                source.constants |= names
            source.constants.update(filter(str.isupper, names))


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement defines where it stands."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Assign(targets=targets):
            found = [inner for target in targets for inner in ast.walk(target)]
            return {inner.id for inner in found if isinstance(inner, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


class Project:
    """Everything that a text may refer to."""

    def __init__(self, sources: Mapping[str, Source], words: set[str]) -> None:
        self.sources = sources
        self.words = {*dir(builtins), *ELSEWHERE, *words}
        self.constants: set[str] = set()
        self.others: set[str] = {"serve"}  # Ray's, wherever prose says so
        self.classes: dict[str, list[Source]] = {}
        self.stems: dict[str, list[Source]] = {}
        for module, source in sources.items():
            self.words |= source.words
            self.others |= source.imported
            self.constants |= source.constants
            self.stems.setdefault(module.rpartition(".")[2], []).append(source)
            for name in source.bases:
                self.classes.setdefault(name, []).append(source)
        self.keys = {
            key
            for name in DECLARATIONS
            for place in self.classes.get(name, ())
            for key in place.members[name]
        }
        self.options = {option for source in sources.values() for option in source.options}

    def has_class_member(self, name: str, member: str, seen: frozenset[str] = frozenset()) -> bool:
        """Whether a class of that name, or one that it is made from, has the member."""
        if name in seen:
            return False
        places = self.classes.get(name)
        if places is None:  # another project's
            return True
        return any(
            member in place.members[name]
            or any(self.has_class_member(base, member, seen | {name}) for base in place.bases[name])
            for place in places
        )

    def resolves(self, name: str, source: Source) -> bool:
        """Whether a dotted name leads somewhere, read in a file."""
        head, *rest = name.split(".")
        if head in PACKAGES and rest:
            return self._resolves_absolute(name.split("."))
        if not rest:
            return (
                name in (source.words if _is_private(name) else self.words)
                or name in self.others
                or name in self.stems
            )
        if any(self._has(place, rest) for place in self.stems.get(head, ())):
            return True
        if head in self.classes:
            return self.has_class_member(head, rest[0])
        if name.rpartition(".")[2] in FILES or head in self.others or _is_installed(head):
            return True
        if name.isupper() or head in self.keys:
            return all(part in self.words for part in rest) or name.isupper()
        if head not in source.words and rest[-1] in self.constants:  # of a module that is gone
            return False
        return head in self.words and all(part in self.words for part in rest)

    def _resolves_absolute(self, parts: list[str]) -> bool:
        for count in range(len(parts), 0, -1):
            module = ".".join(parts[:count])
            if module in self.sources:
                return count == len(parts) or self._has(self.sources[module], parts[count:])
        # a folder without ``__init__``
        return (ROOT / Path(*parts)).is_dir()

    def _has(self, source: Source, rest: list[str]) -> bool:
        name, *more = rest
        if f"{source.module}.{name}" in self.sources:
            return not more or self._has(self.sources[f"{source.module}.{name}"], more)
        if name not in source.members:
            return False
        return not more or name not in source.bases or self.has_class_member(name, more[0])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def _is_installed(name: str) -> bool:
    return name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None


pytestmark = pytest.mark.slow  # reads all of the code, in three seconds


@pytest.fixture(scope="module")
def project() -> Project:
    """The whole code, read once."""
    files = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path != Path(__file__)
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    words = {
        word
        for path in (
            *ROOT.glob("*.yaml"),
            *ROOT.glob("docs/**/*.md"),
            *ROOT.glob("deployments/**/*.lua"),
            *ROOT.glob("deployments/**/*.cfg*"),
            ROOT / "pyproject.toml",
            ROOT / "Makefile",
        )
        for word in WORD.findall(path.read_text())
    }
    sources = [read_source(path) for path in files]
    return Project({source.module: source for source in sources}, words)


def find_quoted(source: Source) -> Iterator[tuple[int, str]]:
    """Every quoted text of a file's prose, with its line."""
    for line, text in source.prose:
        for match in QUOTED.finditer(text):
            yield line + text[: match.start()].count("\n"), match[1] or match[2]


def test_names_lead_somewhere(project):
    """A quoted name is one of the code: a module, a member, a field, an argument."""
    dead = [
        Reference(source.path, line, text)
        for source in project.sources.values()
        for line, text in find_quoted(source)
        if (match := DOTTED.fullmatch(text)) and not project.resolves(match[1], source)
    ]
    assert not dead, "\n".join(map(str, dead))


def test_files_are_there(project):
    """A path of the project, quoted or not, is a file or a folder of it."""
    dead = [
        Reference(source.path, line + text[: match.start()].count("\n"), match[0])
        for source in project.sources.values()
        for line, text in source.prose
        for match in PATH.finditer(text)
        if not (ROOT / match[0]).exists() and not (ROOT / f"{match[0]}.py").exists()
    ]
    assert not dead, "\n".join(map(str, dead))


def test_options_and_commands_are_there(project):
    """A quoted option is one that the code has or gives, and ``wakeful NAME`` a command."""
    dead = [
        Reference(source.path, line, text)
        for source in project.sources.values()
        for line, text in find_quoted(source)
        if ((match := COMMAND.fullmatch(text)) and match[1] not in COMMANDS)
        or not (project.options | OTHERS_OPTIONS).issuperset(OPTION.findall(text))
    ]
    assert not dead, "\n".join(map(str, dead))


def test_references_are_quoted_in_one_way(project):
    """No roles of Sphinx, which nothing here reads."""
    roles = [
        Reference(source.path, line, text.splitlines()[0])
        for source in project.sources.values()
        for line, text in source.prose
        if ROLE.search(text)
    ]
    assert not roles, "\n".join(map(str, roles))


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("runtime.library.entry.LibraryEntry", True),
        ("runtime.library.entry.LibraryEntry.supersede", True),
        ("runtime.library.entry.LibraryEntry.superseded", False),
        ("runtime.library.entries", False),
        ("LibraryEntry.supersede", True),
        ("LibraryEntry.superseded", False),
        ("entry.LibraryEntry", True),
        ("entry.LibraryEntries", False),
        ("entries.LibraryEntry", True),  # as a variable has it
        ("entries.sequence_turn", False),
        ("LibraryEntries", False),
        ("load_task", True),
        ("_load_task", False),
        ("limits.replay", True),
        ("asyncio.timeout", True),
        ("calls.csv", True),
    ],
)
def test_a_dead_reference_is_found(project, text, is_there):
    """What is quoted is a name of the code as a whole, and not its parts somewhere."""
    source = project.sources["runtime.http.function_handler"]
    assert project.resolves(text, source) is is_there


def test_a_docstring_says_more_than_its_name(project):
    """It has a word that neither the name has, nor the class, nor the arguments."""
    echoes = [
        Reference(source.path, line, text)
        for source in project.sources.values()
        if not source.module.startswith("tests.")
        for line, text in source.echoes
    ]
    assert not echoes, "\n".join(map(str, echoes))
