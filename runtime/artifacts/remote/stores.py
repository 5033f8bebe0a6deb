"""Files of object stores, by fsspec: ``s3fs`` for ``s3://``, ``gcsfs`` for ``gs://``. Both take
credentials, region and endpoint from where the provider's own tools do (``AWS_…`` and
``~/.aws``; Google's application default credentials), and options from fsspec's own variables
(``FSSPEC_S3_…``).
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from runtime.artifacts.remote.objects import Interrupted, OpenedObject
from runtime.errors import StoreError
from runtime.system.extras import missing_message
from runtime.system.model_locations import ObjectLocation, without_credentials

CHUNK_BYTES: Final = 8 << 20
CHUNK_S: Final = 120.0
"""For a piece: 70 KB/s."""

LOOK_S: Final = 60.0
"""For what a file is, the client's own attempts included."""

MODULES: Final = {"s3": "s3fs", "gs": "gcsfs"}

ADVICE: Final = {
    "s3": "Give credentials as for the AWS command (AWS_PROFILE, AWS_ACCESS_KEY_ID …), or set"
    " FSSPEC_S3_ANON=true for a public bucket.",
    "gs": "Give credentials as for gcloud (GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth"
    " application-default login`), or set FSSPEC_GS_TOKEN=anon for a public bucket.",
}

T = TypeVar("T")


class StoreObject:
    """A file of an object store.

    Args:
        location: ``s3://`` or ``gs://``.
        name: for messages.
    """

    def __init__(self, location: ObjectLocation, name: str) -> None:
        self._scheme = location.scheme
        self._key = f"{location.host}/{location.path}"
        self._name = name

    @contextmanager
    def open(self, begin: int, mark: str) -> Iterator[OpenedObject]:
        """See ``RemoteObject``."""
        with self._client_errors():
            import fsspec
            import fsspec.asyn

            # not one that another call has left, with what it remembers of a file
            store = fsspec.filesystem(
                self._scheme, skip_instance_cache=True, use_listings_cache=False
            )

        def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
            async def do() -> T:
                return await work

            with self._client_errors():
                found: T = fsspec.asyn.sync(store.loop, do, timeout=seconds)
                return found

        def look() -> tuple[int, str]:
            return self._state(within(LOOK_S, store._info(self._key)))

        size, found = look()
        if found != mark or begin > size:
            begin = 0

        def read() -> Iterator[bytes]:
            for at in range(begin, size, CHUNK_BYTES):
                end = min(at + CHUNK_BYTES, size)
                chunk = within(CHUNK_S, store._cat_file(self._key, start=at, end=end))
                if len(chunk) != end - at:
                    raise Interrupted(f"{len(chunk)} of {end - at} bytes came")
                yield chunk
            store.invalidate_cache()
            if look() != (size, found):
                raise Interrupted("it was replaced while it was read")

        yield OpenedObject(begin, size, found, read())

    def _state(self, info: Any) -> tuple[int, str]:
        """Size, and what changes with the file: of S3 its ETag, of Google its generation."""
        if info.get("type") != "file":
            raise StoreError(f"{self._name} is a folder. Write the path of the .onnx file in it.")
        mark = info.get("generation") or info.get("ETag") or info.get("etag") or ""
        return int(info["size"]), str(mark)

    @contextmanager
    def _client_errors(self) -> Iterator[None]:
        """Turns what the clients raise into advice.

        Raises:
            StoreError: there is no client, or no such file, or it is not allowed.
            Interrupted: in the place of everything else.
        """
        try:
            yield
        except (StoreError, Interrupted):
            raise
        except ImportError as error:
            purpose = f"`wakeful models pull` of {self._scheme}://"
            raise StoreError(missing_message(MODULES[self._scheme], purpose)) from error
        except FileNotFoundError as error:
            raise StoreError(f"{self._name} is not there, or not for these credentials.") from error
        except TimeoutError as error:
            raise Interrupted("the store did not answer in time") from error
        except Exception as error:  # of any client below
            kind = type(error).__name__
            text = without_credentials(str(error)).strip().rstrip(".")
            reason = f"{kind}: {text[:300]}" if text else kind
            if isinstance(error, PermissionError) or "Credential" in kind or "Auth" in kind:
                raise StoreError(f"{self._name}: {reason}. {ADVICE[self._scheme]}") from error
            raise Interrupted(reason) from error
