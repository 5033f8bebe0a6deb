"""What the request forms of all task routes have in common: keys, texts, how many, and what a form
becomes: rows for a function, and an answer made of theirs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runtime.errors import (
    MalformedBody,
    MissingInput,
    TooLarge,
    UnknownInput,
    WakefulError,
    WrongDatatype,
)
from runtime.system.messages import kind_of, list_names, quote_names, suggest_name

MAX_INPUTS: Final = 2048
"""Texts of one request, as OpenAI has it."""

BYTES_PER_TOKEN: Final = 4
"""Where a function does not give ``tokens``, so many bytes of UTF-8 count as one: about what texts
in English have.
"""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskCall:
    """A request, read.

    Attributes:
        model: the function's name; empty: the request names none.
        rows: what the function takes.
        places: of each row in the request, for errors.
        answer: makes the answer, from the function's name, the request's id and what the function
            answered to each row.
    """

    model: str
    rows: Sequence[dict[str, Any]]
    places: Sequence[str]
    answer: Callable[[str, str, Sequence[Row]], dict[str, Any]]


def read_keys(data: Any, known: Sequence[str]) -> dict[str, Any]:
    """Return the keys of a request that have a value.

    Raises:
        WrongDatatype, UnknownInput: it is no object, or has another key. A key that is ignored
            would be an answer to another question.
    """
    if not isinstance(data, dict):
        raise WrongDatatype("the body is a JSON object.")
    for key in data:
        if key not in known:
            raise UnknownInput(
                f"{quote_names(key)} is not read here.{suggest_name(key, known)} Known:"
                f" {list_names(known)}.",
                where=key[:64],
            )
    return {key: value for key, value in data.items() if value is not None}


def require(keys: Mapping[str, Any], name: str) -> Any:
    """Return a key's value.

    Raises:
        MissingInput: it is not there.
    """
    if name not in keys:
        raise MissingInput(f"{name!r} is missing.", where=name)
    return keys[name]


def read_text(value: Any, where: str) -> str:
    """Return a text.

    Raises:
        WrongDatatype: it is none.
    """
    if not isinstance(value, str):
        raise WrongDatatype(f"this is {kind_of(value)}, a string is wanted.", where=where)
    return value


def read_model(keys: Mapping[str, Any]) -> str:
    """Return the name that a request gives, or nothing. Raises as ``read_text``."""
    return read_text(keys.get("model", ""), "model")


def read_count(value: Any, where: str) -> int:
    """Return a whole number from 1.

    Raises:
        WrongDatatype: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongDatatype("a whole number from 1 is wanted.", where=where)
    return value


def read_flag(value: Any, where: str) -> bool:
    """Return true or false.

    Raises:
        WrongDatatype: it is neither.
    """
    if not isinstance(value, bool):
        raise WrongDatatype("true or false is wanted.", where=where)
    return value


def read_texts(value: Any, where: str, of: Callable[[Any, str], str] = read_text) -> list[str]:
    """Return the texts of a list.

    Args:
        of: reads one element, at its place.

    Raises:
        RequestError: it is no list, empty, too long, or has something else in it.
    """
    if not isinstance(value, list):
        raise WrongDatatype(f"this is {kind_of(value)}, a list is wanted.", where=where)
    if not value:
        raise MalformedBody("the list is empty; one text at least is wanted.", where=where)
    if len(value) > MAX_INPUTS:
        raise TooLarge(
            f"{len(value)} texts are more than the {MAX_INPUTS} of one request; send them in"
            " parts.",
            where=where,
        )
    return [of(text, f"{where}[{index}]") for index, text in enumerate(value)]


def read_inputs(keys: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the texts of ``input``, which is one or a list of them, and the place of each.

    Raises:
        RequestError: as ``read_texts``; a text that was cut into tokens by the client is refused
            with what to do.
    """
    value = require(keys, "input")
    if isinstance(value, str):
        return [value], ["input"]
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int | list) and not isinstance(first, bool):
        raise WrongDatatype(
            "these are tokens, whose numbers mean another text for each tokenizer; send the text,"
            " which the function cuts by its own. langchain-openai does so with"
            " `OpenAIEmbeddings(check_embedding_ctx_length=False)`.",
            where="input",
        )
    texts = read_texts(value, "input")
    return texts, [f"input[{index}]" for index in range(len(texts))]


def count_tokens(texts: Sequence[str], answers: Sequence[Row]) -> int:
    """Return the tokens of a request: those that the function says it read, or an estimate
    (``BYTES_PER_TOKEN``) where it does not say.
    """
    if all("tokens" in answer for answer in answers):
        return sum(int(answer["tokens"]) for answer in answers)
    return sum(-(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN) for text in texts)


def raise_first_error(places: Sequence[str], outcomes: Sequence[Row | WakefulError]) -> None:
    """Raise the first error among what a function answered, with its place in the request: these
    forms have no room for an answer that lacks some.
    """
    failed = [index for index, one in enumerate(outcomes) if isinstance(one, WakefulError)]
    if not failed:
        return
    error = outcomes[failed[0]]
    assert isinstance(error, WakefulError)
    more = f" ({len(failed) - 1} more failed, too.)" if len(failed) > 1 else ""
    placed = copy.copy(error)
    placed.message = f"{places[failed[0]]}: {error.message}{more}"
    placed.where = places[failed[0]]
    raise placed from error
