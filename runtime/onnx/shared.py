"""A model is opened once in a process, however many functions run it: sessions are shared while anybody has them."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

from runtime.onnx.options import SessionPlan
from runtime.onnx.prepared import Prepared
from runtime.onnx.session import Session

_Key = tuple[str, int, int, str, str]

_opened: weakref.WeakValueDictionary[_Key, Session] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def shared(path: Path, plan: SessionPlan, prepared: Prepared | None) -> Session:
    """The session of a file with that plan and in that form: the one that is open, or a new one. A file that changed since, or weights
    beside it, is another.

    Two threads that ask at the same time may open it twice; one of the sessions is then nobody else's.

    Raises:
        LoadError: as ``Session``.
    """
    stat = path.stat()
    key = (str(path.resolve()), stat.st_mtime_ns, stat.st_size, repr(plan), repr(prepared))
    with _lock:
        found = _opened.get(key)
    if found is None:
        found = Session(path, plan, prepared)
        with _lock:
            _opened[key] = found
    return found
