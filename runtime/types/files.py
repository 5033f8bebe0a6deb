"""A file that a stage gives as the answer: its bytes, or a path on disk, and what it is.

A value of the last stage is one if it is annotated so (``MediaType``): ``bytes``, a ``Path``, or a
``File``, which says more of itself. It stays what the stage gave until the edge knows what the
client accepts: ``open_file`` then opens it, to be sent a piece at a time or read whole.

A temporary file (``File(path=..., delete=True)``) loses its name as soon as it is opened. One that
is not wanted any more (its client left, its call ran out of time, it is not what is declared) is
discarded where that is found out; any other goes with the last reference to it, which a garbage
collection may have to find.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Any, Final

from runtime.errors import FunctionError
from runtime.types.annotations import covers, is_media_range, is_media_type

logger = logging.getLogger("wakeful.function")

MAX_FILENAME: Final = 255
"""Characters of the name that a client is told."""


class File:
    """A file as an answer, which says what it is: ``File(png, "image/png")``.

    A stage is annotated ``Annotated[File, MediaType("image/*")]``, or ``File`` where it may be of
    any type.

    Args:
        content: its bytes.
        media_type: such as ``image/png``; None: the one type of the stage's ``MediaType``.
        filename: what a client is told to call it, without folders; None: nothing is told.
        path: of a file on disk, in place of ``content``. It is sent a piece at a time.
        delete: the file at ``path`` is temporary: it is removed once it is sent, or not wanted.

    Raises:
        ValueError: neither or both of ``content`` and ``path``, or no media type.
        TypeError: a content that is not bytes.
    """

    __slots__ = ("_deletes", "content", "filename", "media_type", "path")

    def __init__(
        self,
        content: bytes | bytearray | memoryview | None = None,
        media_type: str | None = None,
        filename: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        delete: bool = False,
    ) -> None:
        self._deletes = False  # what ``__del__`` finds if this raises
        if (content is None) == (path is None):
            raise ValueError("a File has either its bytes or a path: File(png, 'image/png').")
        if content is not None and not isinstance(content, bytes | bytearray | memoryview):
            raise TypeError(f"a File's content is bytes, not {type(content).__name__}.")
        if delete and path is None:
            raise ValueError("File(delete=True) removes the file at its path, and it has none.")
        if media_type is not None and not is_media_type(media_type):
            raise ValueError(f"{media_type!r} is no media type; write one, such as 'image/png'.")
        self.content = None if content is None else bytes(content)
        self.path = None if path is None else Path(path)
        self.media_type = media_type
        self.filename = filename
        self._deletes = delete

    def __repr__(self) -> str:
        what = self.path if self.content is None else f"{len(self.content)} bytes"
        return f"<File {self.media_type or 'of the declared type'}: {what}>"

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return 0 if self.content is None else len(self.content)

    def discard(self) -> None:
        """Remove the file if it is temporary. Idempotent."""
        if self._deletes and self.path is not None:
            self._deletes = False
            with contextlib.suppress(OSError):
                self.path.unlink()

    def __del__(self) -> None:
        self.discard()


FILE_TYPES: Final = (bytes, Path, File)
"""What a value may be that is annotated as a file."""


def file_issue(value: Any, declared: str) -> str:
    """Why a value of ``FILE_TYPES`` is not the file that is declared; empty when it is.

    Args:
        declared: the media type, or the range.
    """
    path = value if isinstance(value, Path) else None
    if isinstance(value, File):
        path = value.path
        if value.media_type is None and is_media_range(declared):
            return f"a File without a media type, {declared} is declared: File(…, 'image/png')"
        if value.media_type is not None and not covers(declared, value.media_type):
            return f"a File of {value.media_type}, {declared} is declared"
    if path is not None and not path.is_file():
        return "a path at which there is no file"
    return ""


def discard(value: Any) -> None:
    """Remove what a stage gave, if it is a temporary file: it is no answer."""
    if isinstance(value, File):
        value.discard()


class OpenFile:
    """A file that is being answered. ``close`` frees it, and so does the last reference.

    Attributes:
        content: its bytes; None: they are on disk.
        size: bytes.
        media_type, filename: as of ``File``; the type is always there.
    """

    __slots__ = ("_descriptor", "content", "filename", "media_type", "size")

    def __init__(
        self,
        content: bytes | None,
        descriptor: int,
        size: int,
        media_type: str,
        filename: str | None,
    ) -> None:
        self.content = content
        self._descriptor = descriptor
        self.size = size
        self.media_type = media_type
        self.filename = filename

    @property
    def descriptor(self) -> int:
        """Of a file on disk that is open."""
        return self._descriptor

    def read_into(self, memory: memoryview, offset: int) -> int:
        """Fill memory from ``offset`` of a file on disk; blocks. Return the bytes that were there:
        fewer than ``memory`` has, if the file has become shorter.
        """
        filled = 0
        while filled < len(memory):
            count = os.preadv(self._descriptor, [memory[filled:]], offset + filled)
            if not count:
                break
            filled += count
        return filled

    def read(self) -> bytes:
        """Return all of it; blocks.

        Raises:
            FunctionError: it cannot be read, or has become shorter.
        """
        if self.content is not None:
            return self.content
        pieces, missing = [], self.size
        try:
            while missing and (piece := os.pread(self._descriptor, missing, self.size - missing)):
                pieces.append(piece)
                missing -= len(piece)
        except OSError as error:
            raise _unreadable(error) from error
        if missing:
            raise FunctionError("the file that it gave became shorter while it was read.")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def open_file(value: Any, declared: str, max_bytes: int) -> OpenFile:
    """Open what a stage gave as a file; may block. A temporary one has no name from then on.

    Args:
        value: one of ``FILE_TYPES``.
        declared: the media type; of a ``File`` its own counts.
        max_bytes: a file on disk has no more.

    Raises:
        FunctionError: there is no such file, or it has more.
    """
    if isinstance(value, bytes):
        return OpenFile(value, -1, len(value), declared, None)
    file = value if isinstance(value, File) else File(path=value)
    media_type = file.media_type or declared
    if file.content is not None:
        return OpenFile(file.content, -1, len(file.content), media_type, file.filename)
    assert file.path is not None
    try:
        # a pipe would wait for its other end
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        logger.warning("%s, which a stage gave as its answer, cannot be read: %s", file.path, error)
        file.discard()
        raise _unreadable(error) from error
    opened = OpenFile(None, descriptor, 0, media_type, file.filename)
    file.discard()
    found = os.fstat(descriptor)
    opened.size = found.st_size
    if not stat.S_ISREG(found.st_mode):
        raise FunctionError("what it gave as a file is none; give the path of a plain file.")
    if opened.size > max_bytes:
        raise FunctionError(
            f"the file that it gave has {opened.size} bytes; {max_bytes} of limits.max_body_bytes"
            " are sent."
        )
    return opened


def _unreadable(error: OSError) -> FunctionError:
    return FunctionError(f"the file that it gave cannot be read: {error.strerror}.")
