"""Plans a memory before it is built: bytes, shards, multiply-adds, hours."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..config import GlimmerConfig
from ..costs.flops import Lengths, memory_macs, setting_of
from ..data.inputs import Passage, passage_tokens
from ..ops import Ops
from ..params.model import Model
from ..params.safetensors_io import TYPES, Stored, file_bytes, shard_name
from ..text.tokenizer import Tokenizer
from .encode import encode_shard
from .manifest import INDEX, metadata
from .quantized import DTYPES, QuantizedStates
from .shard import Index, Shard

MIN_SECONDS, MEASURED = 2.0, 64  # least time of measuring a rate; passages encoded at a time


class Corpus(NamedTuple):
    """The numbers of a corpus that a plan needs.

    Args:
        lengths: the lengths of the passages in tokens, as Python's integers, which cannot overflow.
        shards: tokens, and bytes of strings, of each shard; empty if only lengths are known.
    """

    lengths: Lengths
    shards: tuple[tuple[int, int], ...] = ()


def corpus_of(config: GlimmerConfig, tokenizer: Tokenizer, passages: Iterable[Passage], shard_passages: int) -> Corpus:
    """Count the tokens and strings of passages, which are read once and not kept."""
    count = squares = 0
    shards: list[tuple[int, int]] = []
    for passage in passages:
        n = int(passage_tokens(config, tokenizer, [passage]).lengths[0])
        size = sum(len(s.encode()) for s in (passage.id, passage.title, passage.text))
        if count % shard_passages == 0:
            shards.append((0, 0))
        shards[-1] = (shards[-1][0] + n, shards[-1][1] + size)
        count, squares = count + 1, squares + n * n
    return Corpus(Lengths(count, sum(n for n, _ in shards), squares), tuple(shards))


def scaled(corpus: Corpus, passages: int) -> Corpus:
    """A corpus of another number of passages whose lengths are distributed as these are; its shards are not known."""
    n, tokens, squares = (int(x) for x in corpus.lengths)
    return Corpus(Lengths(passages, tokens * passages // n, squares * passages // n))


def _zeros(dtype: Any, *shape: int) -> np.ndarray:
    """An array of zeros of that shape, which takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _shard_bytes(number: int, passages: int, tokens: int, strings: int, build: dict[str, Any]) -> int:
    """The exact size of a shard's file."""
    d, tag = build["encoder"]["d_model"], DTYPES[build["dtype"]]
    scales = _zeros(np.float32, tokens) if tag == "I8" else None
    shard = Shard(
        QuantizedStates(Stored(tag, _zeros(TYPES[tag], tokens, d)), scales),
        _zeros(np.int64, passages + 1),
        _zeros(np.uint8, strings),
        _zeros(np.int64, 3 * passages + 1),
    )
    return file_bytes(shard.arrays(), metadata(shard_name(number), build))


def stored_bytes(corpus: Corpus, build: dict[str, Any]) -> tuple[int, bool]:
    """Bytes of a memory's files without the manifest, and True if that is exact.

    If only the lengths of the passages are known, these are the bytes of the states alone, and False.
    """
    size, n = build["shard_passages"], int(corpus.lengths.sequences)
    if corpus.shards:
        counts = (min(size, n - i * size) for i in range(len(corpus.shards)))
        total = sum(_shard_bytes(i, count, *corpus.shards[i], build) for i, count in enumerate(counts))
        index = Index(_zeros(np.uint64, n), _zeros(np.int64, n))
        return total + file_bytes(index._asdict(), metadata(INDEX, build)), True
    tag = DTYPES[build["dtype"]]
    token = build["encoder"]["d_model"] * np.dtype(TYPES[tag]).itemsize + (4 if tag == "I8" else 0)
    return int(corpus.lengths.tokens) * token, False


def measured_rate(
    ops: Ops,
    model: Model,
    tokenizer: Tokenizer,
    passages: Iterable[Passage],
    dtype: str,
    min_seconds: float = MIN_SECONDS,
) -> float:
    """Tokens per second that this process encodes, measured for at least `min_seconds` if there are enough passages."""
    source = iter(passages)
    some = list(islice(source, MEASURED))
    encode_shard(ops, model, tokenizer, some[:1], dtype)  # compiles the kernels
    tokens, seconds = 0, 0.0
    while some and seconds < min_seconds:
        start = time.perf_counter()
        tokens += len(encode_shard(ops, model, tokenizer, some, dtype).tokens)
        seconds += time.perf_counter() - start
        some = list(islice(source, MEASURED))
    return tokens / seconds


def plan(
    config: GlimmerConfig, corpus: Corpus, build: dict[str, Any], workers: int, rate: float | None
) -> dict[str, Any]:
    """Sizes and costs of building a memory of `corpus`.

    Args:
        build: as in a manifest; if sizes need not be exact, "encoder" needs "d_model" only.
        workers: how many encode at the same time.
        rate: tokens per second of each worker; None if unknown, and then "hours" is None.
    """
    size, exact = stored_bytes(corpus, build)
    macs = memory_macs(setting_of(config), corpus.lengths)
    tokens = int(corpus.lengths.tokens)
    return {
        "passages": int(corpus.lengths.sequences),
        "tokens": tokens,
        "stored_as": build["dtype"],
        "bytes": size,
        "bytes_are": "exact, without manifest.json" if exact else "of states alone, without texts, ids and places",
        "shards": -(-int(corpus.lengths.sequences) // build["shard_passages"]),
        "macs": int(macs["memory"] + macs["memory.attention"]),
        "workers": workers,
        "tokens_per_second_and_worker": rate,
        "hours": None if rate is None else tokens / rate / workers / 3600,
        "tokens_per_second_for_one_day": tokens / 86400,
    }
