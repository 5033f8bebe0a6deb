"""One file of a repository on a Hugging Face hub, at a fixed revision, by the hub's own client.

The client reads ``HF_ENDPOINT``, ``HF_TOKEN`` and the proxies itself; an ``endpoint`` given here wins over them.
"""

from __future__ import annotations

from pathlib import Path

from runtime.errors import StoreError

TIMEOUT_S = 10.0
"""For the hub's answer about a file; its bytes have the client's own limit for silence (``HF_HUB_DOWNLOAD_TIMEOUT``)."""


def fetch(repository: str, revision: str, path: str, folder: Path, *, endpoint: str | None = None) -> Path:
    """Downloads ``path`` into ``folder``.

    Args:
        repository: ``organisation/name``.
        revision: commit, tag or branch; the caller's sha256 decides whether its content is the wanted.
        endpoint: address of the hub; None is the client's own.

    Raises:
        StoreError: the repository, revision or file is not there or not for us, or the hub does not answer.
    """
    # heavy, and only pulling needs it
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    what = f"hf:{repository}@{revision}/{path}"
    disable_progress_bars()
    try:
        return Path(hf_hub_download(repository, path, revision=revision, local_dir=folder, endpoint=endpoint, etag_timeout=TIMEOUT_S))
    except GatedRepoError as error:
        raise StoreError(f"{what}: the repository is gated. Accept its terms, and set HF_TOKEN to a token of that account.") from error
    except RepositoryNotFoundError as error:
        raise StoreError(f"{what}: no such repository, or a private one. Check the name, or set HF_TOKEN.") from error
    except RevisionNotFoundError as error:
        raise StoreError(f"{what}: the repository has no revision {revision!r}. Pin a commit that it has.") from error
    except LocalEntryNotFoundError as error:
        raise StoreError(f"{what}: the hub cannot be reached ({error.__cause__ or error}). Check the network, or HF_ENDPOINT.") from error
    except HfHubHTTPError as error:
        raise StoreError(f"{what}: the hub answered {error.response.status_code}. Check the path, or try later.") from error
    except ValueError as error:
        raise StoreError(f"{what}: {error}") from error
