"""Converts a tokenizer when a model is pulled: any that transformers knows becomes one
``tokenizer.json``, the only file that serving reads.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.errors import StoreError

UNLIMITED = 1 << 30
"""transformers says 10**30 where a tokenizer knows no maximum length."""


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What a ``tokenizer.json`` does not say, written next to it as ``tokenizer.meta.json``.

    Attributes:
        max_length: most tokens the model takes; None if the tokenizer has no limit.
        pad_id: token for padding; None if it has none.
        padding_side: ``left`` or ``right``.
    """

    max_length: int | None
    pad_id: int | None
    padding_side: str


def resolve_tokenizer(folder: Path, out: Path) -> TokenizerFacts:
    """Load the tokenizer of a model's folder with transformers and write its two files into
    ``out``.

    Padding and truncation in the files are removed: the batcher pads, and the stage limits the
    length of a text.

    Raises:
        StoreError: transformers cannot load it from these files, or it has no fast form.
    """
    transformers = _import_transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), use_fast=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise StoreError(f"transformers cannot load a tokenizer from {folder}: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise StoreError(
            f"{type(tokenizer).__name__} of {folder} has no fast form; only those of the tokenizers"
            " library can be served."
        )
    # what transformers makes of a folder without a vocabulary
    if backend.get_vocab_size() <= len(set(tokenizer.all_special_tokens)):
        raise StoreError(
            f"{folder} has no vocabulary; add tokenizer.json, or the file that"
            f" {type(tokenizer).__name__} reads."
        )
    backend.no_padding()
    backend.no_truncation()
    backend.save(str(out / "tokenizer.json"))
    length = tokenizer.model_max_length
    facts = TokenizerFacts(
        int(length) if length < UNLIMITED else None, tokenizer.pad_token_id, tokenizer.padding_side
    )
    (out / "tokenizer.meta.json").write_text(json.dumps(asdict(facts), indent=2) + "\n")
    return facts


def _import_transformers() -> Any:
    """Import transformers without its warning that PyTorch is missing: tokenizers need none. The
    import takes a second, so it is done here.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        import transformers
    finally:
        logging.disable(disabled)
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers types only parts of itself
    return transformers
