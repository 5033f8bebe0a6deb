"""The stage of my-function: its parameters are the fields of a request, its result the answer."""

from typing import TypedDict

from wakeful import RequestError


class Summary(TypedDict):
    words: int
    longest: str


def summarise(text: str, shout: bool = False) -> Summary:
    """Count the words of a text, and find the longest."""
    words = text.split()
    if not words:
        raise RequestError("there is no word in it.", where="text")
    longest = max(words, key=len)
    return {"words": len(words), "longest": longest.upper() if shout else longest}
