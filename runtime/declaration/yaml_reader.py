"""Reads a YAML file as plain data in which the line of every key is known.

ruamel.yaml composes the file to nodes, each with its line; they become what JSON can express (no
tag names a class, no alias makes a small file large). The one tag that is read is ``!file`` in an
``example`` (``runtime.types.example_files``). ``serve deploy`` reads the same file with
YAML 1.1, where ``no`` is false, ``012`` is ten and ``1:30`` is ninety; YAML 1.2, which ruamel
follows, has a string, twelve and a string; and it stops at ``{text: When is payday?}``. Such a word
is refused where it is written without quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.tag import Tag

from runtime.declaration.validation import child_path, parent_path
from runtime.errors import DeclarationError, Problem
from runtime.system.files import HEAD_BYTES, did_you_mean_file, kind_of_file, path_fault
from runtime.system.messages import quote
from runtime.types.example_files import FILE_TAG

DEFAULT_NAME: Final = "serve_config.yaml"

MAX_BYTES: Final = 1 << 20
"""Largest file read: about 1,500 functions of twelve lines, four seconds of parsing; nothing but
commas takes fifteen.
"""

MAX_DEPTH: Final = 32
"""Deepest nesting read; a declaration needs eight."""

MAX_PATHS: Final = 16 << 20
"""Characters of the paths of all keys and list items, each of which is kept with its line: a
megabyte of numbers, 32 levels deep below long keys, would take one gigabyte. A thousand functions
have one million.
"""

_OTHER_VERSION: Final = re.compile(
    r"(?:(?:[ \t]*+(?:#[^\r\n]*+)?+|%(?!YAML[ \t])[^\r\n]*+)(?:\r\n?+|\n))*+"
    r"(%YAML[ \t]++(?!1\.2(?:\s|\Z))\S+)"
)
"""A ``%YAML`` of another version than is read, which stands before all but comments and other
directives.
"""

_OTHER_VERSION_BELOW: Final = re.compile(r"(?m)^(%YAML[ \t]++(?!1\.2(?:\s|\Z))\S+)")

MAX_PROBLEMS: Final = 1000
"""Problems after which the rest of a file is not read."""

_TAG: Final = "tag:yaml.org,2002:"
_TAGS: Final[tuple[tuple[type[Node], tuple[str, ...]], ...]] = (
    (ScalarNode, tuple(_TAG + kind for kind in ("null", "bool", "int", "float", "str"))),
    (MappingNode, (_TAG + "map",)),
    (SequenceNode, (_TAG + "seq",)),
)
"""Those of each kind of node."""

_NULL: Final = re.compile(r"~|null|Null|NULL|")

_IN_EXAMPLE: Final = re.compile(r"applications\[\d+\]\.args\.example(?![^.\[])")
"""The places where a ``!file`` may stand."""

_TWO_MEANINGS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (
        re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"),
        "Write true or false, or put it in quotes.",
    ),
    (
        re.compile(r"[-+]?0[0-9_]+|[-+]?0o[0-7_]+"),
        "Write it without the leading zero, or put it in quotes.",
    ),
    (
        re.compile(r"[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*"),
        "Write the number it stands for, or put it in quotes.",
    ),
    (
        re.compile(
            r"[-+]?\.?[0-9][0-9_]*(\.[0-9_]*)?[eE][0-9]+|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]\.[0-9_]+([eE][-+]?[0-9]+)?"
        ),
        (
            "Write it with digits on both sides of a point and a signed exponent (1.0e+3), or put"
            " it in quotes."
        ),
    ),
    (
        re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt \t].*)?|=|<<|([-+]|[-+]?\.)_[0-9_]*"),
        "Put it in quotes.",
    ),
)
"""Words on which YAML 1.1 and 1.2 disagree, or that JSON cannot say (a date), with what to write.
"""

_NOT_IN_FLOW: Final = re.compile(r"\?|^:|:$")
"""What a word has that YAML 1.2 reads in flow style and YAML 1.1 does not: ``{text: payday?}``."""

_OTHER_LINE_ENDS: Final = re.compile("[\x85\u2028\u2029]")
"""Ends of lines to YAML 1.1, not to YAML 1.2."""

_LONG: Final = re.compile(r"[-+]?[0-9_]{19,}|0x[0-9a-fA-F]{16,}")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BEYOND_UNICODE: Final = re.compile(r"\\U(?!000|0010)[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class Document:
    """A file as read.

    Attributes:
        file: its name as the user gave it.
        data: mappings, lists, strings, numbers, booleans and None.
        lines: the line of every key and list item, by its path; of a repeated key, the first.
        problems: what was refused while reading, in file order. ``data`` keeps a refused word as
            text, an alias of a list or mapping as None, which bounds its size, and of a repeated
            key the first value.
    """

    file: str
    data: Any
    lines: Mapping[str, int]
    problems: tuple[Problem, ...]

    def line(self, path: str) -> int:
        """The line of a key, or of its nearest parent in the file."""
        while path and path not in self.lines:
            path = parent_path(path)
        return self.lines.get(path, 1)


def read(path: Path | str) -> Document:
    """Read a file as data.

    Raises:
        DeclarationError: unreadable, above ``MAX_BYTES``, not UTF-8, not YAML, nested too deep, or
            ``MAX_PROBLEMS`` found. Everything milder is in ``Document.problems``, so that later
            checks can add to it.
    """
    file = str(path)
    if "\0" in file:
        raise DeclarationError([Problem(quote(file), 0, "", path_fault(file))])
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DeclarationError(
            [Problem(file, 0, "", f"cannot be read: {error.strerror}{_fix(Path(path), error)}")]
        ) from error
    if message := _other_kind(Path(path), content[:HEAD_BYTES]):
        raise DeclarationError([Problem(file, 0, "", message)])
    if len(content) > MAX_BYTES:
        raise DeclarationError(
            [Problem(file, 0, "", f"larger than {MAX_BYTES >> 20} MiB, the most that is read.")]
        )
    try:
        return parse(content.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DeclarationError(
            [Problem(file, line, "", f"byte 0x{content[error.start]:02x} is not UTF-8.")]
        ) from error


def _other_kind(path: Path, head: bytes) -> str:
    """What to write where the file is no declaration, by its name and its first bytes; empty where
    it may be one.
    """
    suffix = path.suffix.lower()
    if suffix == ".py":
        return (
            "Python, and a declaration is wanted: a file such as serve_config.yaml, that names the"
            f' functions of this one, `graph: [{{stage: NAME, python: "{path.stem}:FUNCTION"}}]`.'
            " `wakeful new NAME` writes both."
        )
    if suffix == ".onnx":
        return (
            "an ONNX model, and a declaration is wanted: a file such as serve_config.yaml with"
            f" `applications: [{{name: {path.stem}, args: {{onnx: {path}}}}}]`."
        )
    kind = kind_of_file(path, head) if suffix not in (".yaml", ".yml", ".json") else ""
    if kind in ("", "empty", "text"):
        return ""
    return f"{kind}, and a declaration is wanted: YAML, such as serve_config.yaml."


def _fix(path: Path, error: OSError) -> str:
    """The end of the sentence about a file that cannot be read: what was probably meant."""
    if isinstance(error, IsADirectoryError) and (path / DEFAULT_NAME).exists():
        return f", did you mean '{path / DEFAULT_NAME}'?"
    if not isinstance(error, FileNotFoundError):
        return "."
    near = did_you_mean_file(path)
    is_first = near == "." and path.name == DEFAULT_NAME
    return ". `wakeful new NAME` writes one that works." if is_first else near


def parse(text: str, file: str) -> Document:
    """Parse the text of a file; see ``read``."""
    if found := _OTHER_VERSION.match(text):
        raise DeclarationError([_other_version(file, text, found)])
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.composer.warn_double_anchors = False  # both are refused
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise DeclarationError([_not_yaml(file, error)]) from error
    except AssertionError as error:  # of such a line, too, where it begins a second document
        if (found := _OTHER_VERSION_BELOW.search(text)) is None:
            raise
        raise DeclarationError([_other_version(file, text, found)]) from error
    except ReaderError as error:
        line, message = (
            text.count("\n", 0, error.position) + 1,
            f"character U+{error.character:04X} does not belong in YAML. Delete it.",
        )
        raise DeclarationError([Problem(file, line, "", message)]) from error
    except (ValueError, OverflowError) as error:
        line = (
            text.count("\n", 0, found.start()) + 1 if (found := _BEYOND_UNICODE.search(text)) else 0
        )
        raise DeclarationError([Problem(file, line, "", f"not YAML: {error}.")]) from error
    if found := _OTHER_LINE_ENDS.search(text):
        line, message = (
            text.count("\n", 0, found.start()) + 1,
            f"character U+{ord(found[0]):04X} ends a line for YAML 1.1, which `serve deploy` reads."
            " Delete it, or write it in double quotes as an escape.",
        )
        raise DeclarationError([Problem(file, line, "", message)])
    reader = _YamlReader(file, yaml.constructor.construct_object)
    data = None if root is None else reader.value(root, "")
    return Document(file, data, reader.lines, tuple(reader.problems))


class _YamlReader:
    """Turns nodes into data, and collects lines and problems.

    Mutable state: ``lines`` and ``problems``, ``_anchored`` (nodes with an anchor, once each),
    ``_tags`` (one for all nodes that have the same: each keeps 400 bytes once it is asked for its
    text), and ``_characters`` (of the paths that were kept).
    """

    def __init__(self, file: str, construct: Callable[[Node], Any]) -> None:
        self.lines: dict[str, int] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._construct = construct
        self._anchored: set[int] = set()
        self._tags: dict[tuple[str | None, str | None], Tag] = {}
        self._characters = 0

    def value(self, node: Node, path: str, *, in_flow: bool = False) -> Any:
        """The data of a node; ``in_flow``: of one that stands in ``[]`` or ``{}``."""
        tag = node.ctag
        node.ctag = self._tags.setdefault((tag.handle, tag.suffix), tag)
        if node.tag == FILE_TAG:
            return self._named_file(node, path)
        if reason := _refusal_reason(node, in_flow):
            # an alias is the anchor's node
            self._refuse(max(node.start_mark.line + 1, self.lines.get(path, 1)), path, reason)
        if isinstance(node, ScalarNode):
            return node.value if reason else self._scalar(node, path)
        assert isinstance(node, CollectionNode)
        if id(node) in self._anchored:
            return None
        if node.anchor:
            self._anchored.add(id(node))
        return (
            self._mapping(node, path)
            if isinstance(node, MappingNode)
            else self._sequence(node, path)
        )

    def _named_file(self, node: Node, path: str) -> Any:
        """What stands for a file in an example, in plain data."""
        line = node.start_mark.line + 1
        if not _IN_EXAMPLE.match(path):
            message = f"{FILE_TAG} stands in an `example` alone. Write the path without it."
            self._refuse(line, path, message)
        elif node.anchor:
            self._refuse(max(line, self.lines.get(path, 1)), path, _anchored(node))
        elif not isinstance(node, ScalarNode) or not node.value:
            message = f"behind {FILE_TAG} comes the path of a file: {FILE_TAG} sample.png."
            self._refuse(line, path, message)
        elif _SURROGATE.search(node.value):
            self._refuse(line, path, _half_a_character(node.value))
        elif fault := path_fault(node.value):
            self._refuse(line, path, fault)
        else:
            return {FILE_TAG: node.value}
        return node.value if isinstance(node, ScalarNode) else None

    def _scalar(self, node: ScalarNode, path: str) -> Any:
        try:
            return self._construct(node)
        except (MarkedYAMLError, ValueError, LookupError):
            # its tag contradicts its text, as in `!!int x`
            self._refuse(node.start_mark.line + 1, path, _refused_tag(node))
            return node.value

    def _mapping(self, node: CollectionNode, path: str) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode):
                self._refuse(line, path, "keys are strings. Put it in quotes.")
                continue
            key = key_node.value
            here = child_path(path, key)
            if not isinstance(self.value(key_node, here, in_flow=node.flow_style), str):
                self._refuse(line, here, "keys are strings. Put it in quotes.")
            if key in first:
                self._refuse(
                    line,
                    here,
                    f"this key already stands on line {first[key]}. Delete one of the two.",
                )
            self._keep_line(here, line)
            first.setdefault(key, line)
            data.setdefault(key, self.value(value_node, here, in_flow=node.flow_style))
        return data

    def _sequence(self, node: CollectionNode, path: str) -> list[Any]:
        data: list[Any] = []
        for item in node.value:
            here = child_path(path, len(data))
            self._keep_line(here, item.start_mark.line + 1)
            data.append(self.value(item, here, in_flow=node.flow_style))
        return data

    def _keep_line(self, path: str, line: int) -> None:
        self.lines.setdefault(path, line)
        self._characters += len(path)
        if self._characters > MAX_PATHS:
            self._refuse(
                line, path, "so many values stand below so long keys that no more are read."
            )
            raise DeclarationError(self.problems)

    def _refuse(self, line: int, path: str, message: str) -> None:
        self.problems.append(Problem(self._file, line, path, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise DeclarationError(self.problems)


def _refusal_reason(node: Node, in_flow: bool) -> str:
    """Why a node is not read; empty when it is."""
    word = node.value
    # quotes make a text of a word, and a tag such as `!!int` a word of that text
    is_word = isinstance(node, ScalarNode) and (node.style is None or node.tag != _TAG + "str")
    if node.anchor:
        return _anchored(node)
    if is_word and (
        advice := next(
            (advice for pattern, advice in _TWO_MEANINGS if pattern.fullmatch(word)), None
        )
    ):
        is_quoted = isinstance(node, ScalarNode) and node.style is not None
        return (
            f"{quote(word)} means one thing to YAML 1.1, which `serve deploy` reads, and another to"
            f" YAML 1.2. {'Delete its tag.' if is_quoted else advice}"
        )
    if is_word and in_flow and _NOT_IN_FLOW.search(word):
        return (
            f"{quote(word)} has a '?' or ':' that is no text within {{}} or [] to YAML 1.1, which"
            " `serve deploy` reads. Put it in quotes."
        )
    if is_word and _LONG.fullmatch(word):
        return (
            f"{quote(word)} has more than 18 digits, the most that a number has here. Put it in"
            " quotes if it is text."
        )
    if isinstance(word, str) and _SURROGATE.search(word):
        return _half_a_character(word)
    is_read = any(isinstance(node, kind) and node.tag in tags for kind, tags in _TAGS)
    is_no_null = node.tag == _TAG + "null" and not (is_word and _NULL.fullmatch(word))
    return _refused_tag(node) if is_no_null or not is_read else ""


def _anchored(node: Node) -> str:
    return f"anchors and aliases ({quote(node.anchor)}) are not read. Write the value out."


def _half_a_character(word: str) -> str:
    return f"{quote(word)} holds half a character (a lone surrogate). Write the character itself."


def _refused_tag(node: Node) -> str:
    tag = quote(str(node.tag).replace(_TAG, "!!"))
    if any(node.tag in tags for _, tags in _TAGS):
        return f"{tag} does not fit what stands behind it. Delete it."
    return f"tags ({tag}) are not read. Delete it."


def _other_version(file: str, text: str, found: re.Match[str]) -> Problem:
    line, message = (
        text.count("\n", 0, found.start(1)) + 1,
        f"{quote(found[1])} asks for another version of YAML than 1.2, as which a file is read"
        " here. Delete the line.",
    )
    return Problem(file, line, "", message)


def _not_yaml(file: str, error: MarkedYAMLError) -> Problem:
    mark, start, problem = (
        error.problem_mark or error.context_mark,
        error.context_mark,
        str(error.problem),
    )
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    if isinstance(error, MaxDepthExceededError):
        return Problem(
            file, line, "", f"nested deeper than {MAX_DEPTH} levels, the most that is read."
        )
    if "another document" in problem:
        return Problem(
            file, line, "", "a second document starts here; a file holds one. Delete the line."
        )
    if "'\\t'" in problem:
        return Problem(file, line, "", f"not YAML: a tab at column {column}. Indent with spaces.")
    if problem.startswith("expected <block end>") and start:
        return Problem(
            file,
            line,
            "",
            f"not YAML: indented to column {column}, which fits nothing above: what it may belong"
            f" to starts on line {start.line + 1} at column {start.column + 1}. Indent it as its"
            " neighbours are.",
        )
    context = (
        f", {error.context} that starts on line {start.line + 1}"
        if start and start.line + 1 != line
        else ""
    )
    return Problem(file, line, "", f"not YAML: {problem} at column {column}{context}.")
