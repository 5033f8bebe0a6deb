"""A hub of models, asked through its own client (``huggingface_hub``), which reads ``HF_ENDPOINT``,
``HF_TOKEN`` and the proxies itself: what a repository has, and its files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import StoreError

HUB_TIMEOUT_S: Final = 10.0
"""For the hub's answer about a repository or a file; a download has the client's own limit for
silence (``HF_HUB_DOWNLOAD_TIMEOUT``).
"""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository.

    Attributes:
        sha256: empty where the hub does not know it: of small files it has git's own hash.
    """

    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository at one commit.

    Attributes:
        commit: in full.
        files: by path.
        task: what the hub says that it does (``pipeline_tag``); empty: nothing.
        licence: as its card has it; empty: none.
    """

    repository: str
    commit: str
    files: Mapping[str, HubFile]
    task: str = ""
    licence: str = ""


def look_up(repository: str, revision: str) -> HubRepository:
    """What a hub has under a name.

    Args:
        repository: ``organisation/name``.
        revision: commit, tag or branch; empty: the newest.

    Raises:
        StoreError: the repository or revision is not there or not accessible, or the hub does not
            answer.
    """
    with _client_errors(f"hf:{repository}{f'@{revision}' if revision else ''}", revision):
        # heavy, and only pulling needs it
        from huggingface_hub import HfApi

        info = HfApi().model_info(
            repository, revision=revision or None, files_metadata=True, timeout=HUB_TIMEOUT_S
        )
    if not re.fullmatch(r"[0-9a-f]{40}", str(info.sha)):
        raise StoreError(
            f"hf:{repository}: the hub says the commit {str(info.sha)[:60]!r}, which is none. Use"
            " another hub."
        )
    files = {
        entry.rfilename: HubFile(entry.size or 0, entry.lfs.sha256 if entry.lfs else "")
        for entry in info.siblings or ()
        if _is_plain(entry.rfilename)
    }
    licence = str(getattr(info.card_data, "license", None) or "")
    return HubRepository(repository, str(info.sha), files, info.pipeline_tag or "", licence)


def _is_plain(path: str) -> bool:
    """Whether a path stays within its folder, whatever the hub is."""
    return not path.startswith("/") and "\\" not in path and ".." not in path.split("/")


def fetch_from_hub(repository: str, revision: str, path: str, folder: Path) -> Path:
    """Download ``path`` into ``folder``.

    Args:
        repository: ``organisation/name``.
        revision: commit, tag or branch; the caller checks the content by sha256.

    Raises:
        StoreError: the repository, revision or file is not there or not accessible, or the hub does
            not answer.
    """
    with _client_errors(f"hf:{repository}@{revision}/{path}", revision):
        # heavy, and only pulling needs it
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        if not sys.stderr.isatty():
            disable_progress_bars()
        return Path(
            hf_hub_download(
                repository,
                path,
                revision=revision,
                local_dir=folder,
                etag_timeout=HUB_TIMEOUT_S,
            )
        )


@contextmanager
def _client_errors(what: str, revision: str) -> Iterator[None]:
    """Turns what the client raises into advice.

    Raises:
        StoreError: in the place of each.
    """
    import httpx
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise StoreError(
            f"{what}: the repository is gated. Accept its terms, and set HF_TOKEN to a token of"
            " that account."
        ) from error
    except RepositoryNotFoundError as error:
        raise StoreError(
            f"{what}: no such repository, or a private one. Check the name, or set HF_TOKEN."
        ) from error
    except RevisionNotFoundError as error:
        raise StoreError(
            f"{what}: the repository has no revision {revision!r}. Pin a commit that it has."
        ) from error
    except (LocalEntryNotFoundError, httpx.TransportError) as error:
        raise StoreError(
            f"{what}: the hub cannot be reached ({error.__cause__ or error}). Check the network, or"
            " HF_ENDPOINT."
        ) from error
    except HfHubHTTPError as error:
        raise StoreError(
            f"{what}: the hub answered {error.response.status_code}. Check the path, or try later."
        ) from error
    except (HFValidationError, ValueError) as error:
        raise StoreError(f"{what}: {error}") from error
