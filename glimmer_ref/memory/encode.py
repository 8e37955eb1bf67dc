"""Encodes passages in batches into one shard: MemEnc of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..config import GlimmerConfig
from ..data.inputs import Passage, passage_tokens
from ..errors import InputError
from ..ops import Ops
from ..paper.lumen import encode_passages
from ..params.model import Model
from ..ragged import Array, Tokens
from ..text.tokenizer import Tokenizer
from .quantized import QuantizedStates
from .shard import Shard

BATCH_TOKENS = 8192  # tokens that are encoded at a time; fixed, since the last bits of MemEnc depend on the batch


def check_unicode(passage: Passage) -> None:
    """Refuse strings that UTF-8 cannot encode, naming the passage.

    Raises:
        InputError: a string has half of a surrogate pair, which JSON can express.
    """
    try:
        f"{passage.id} {passage.title} {passage.text}".encode()
    except UnicodeEncodeError:
        raise InputError(f"passage {passage.id!r}", "valid Unicode", "half of a surrogate pair") from None


def _end_to_end(rows: list[np.ndarray]) -> Tokens:
    return Tokens(np.concatenate(rows), np.array([row.size for row in rows], np.int64))


def _batches(
    config: GlimmerConfig, tokenizer: Tokenizer, passages: Iterable[Passage]
) -> Iterator[tuple[list[Passage], Tokens]]:
    """Batches of passages with their token ids, as many as fit into BATCH_TOKENS."""
    batch: list[Passage] = []
    rows: list[np.ndarray] = []
    for passage in passages:
        check_unicode(passage)
        ids = passage_tokens(config, tokenizer, [passage]).ids
        if rows and sum(map(len, rows)) + ids.size > BATCH_TOKENS:
            yield batch, _end_to_end(rows)
            batch, rows = [], []
        batch.append(passage)
        rows.append(ids)
    if rows:
        yield batch, _end_to_end(rows)


def _check_finite(rows: QuantizedStates, dtype: str, batch: list[Passage], lengths: np.ndarray) -> None:
    bad = np.flatnonzero(~rows.finite())
    if bad.size:
        passage = batch[int(np.searchsorted(np.cumsum(lengths), bad[0], side="right"))]
        do = "store it as bfloat16 or float32" if dtype == "float16" else "check the weights"
        raise InputError(f"memory of passage {passage.id!r}", f"finite values in {dtype}", "inf or nan", do)


def encode_shard(
    ops: Ops, model: Model, tokenizer: Tokenizer, passages: Iterable[Passage], dtype: str | None = None
) -> Shard:
    """MemEnc of some passages as one shard, stored in `dtype`, or in the dtype that the model computes in.

    Raises:
        InputError: no passages, one without tokens, or values that are not finite in `dtype`.
    """
    kept: list[Passage] = []
    parts: list[QuantizedStates] = []
    lengths: list[np.ndarray] = []
    for batch, tokens in _batches(model.config, tokenizer, passages):
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, with the passage's name
            states: Array = ops.to_host(encode_passages(ops, model, tokens).states)
        kind = dtype or str(states.dtype)
        parts.append(QuantizedStates.of(states, kind))
        _check_finite(parts[-1], kind, batch, tokens.lengths)
        kept += batch
        lengths.append(tokens.lengths)
    if not kept:
        raise InputError("passages", "at least one", "none")
    return Shard.of(kept, np.concatenate(lengths), QuantizedStates.end_to_end(parts))
