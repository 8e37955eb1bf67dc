"""Random numbers that are the same on every machine and with every version of NumPy.

They use only the raw 64-bit words of PCG64, which NumPy promises never to change, and arithmetic that IEEE 754 rounds
in exactly one way. There is no logarithm, no power, and no library function for a normal distribution.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

# The embeddings of the first ids after start and end of sequence are tiny: their mean square is near eps, so that an
# RMSNorm with another eps gives other results.
TINY_IDS, TINY = range(2, 6), 1 / 64


def words(seed: int, name: str, n: int) -> np.ndarray:
    """n raw 64-bit words that depend on the seed and the name: [n] uint64."""
    return np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode())])).random_raw(n)


def normal(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Nearly normal numbers of mean 0 and variance 1: each the sum of a word's four 16-bit parts, float64."""
    raw = words(seed, name, math.prod(shape))
    parts = sum((raw >> np.uint64(shift)) & np.uint64(0xFFFF) for shift in (0, 16, 32, 48))
    centred = np.asarray(parts).astype(np.int64) - 2 * 0xFFFF
    return centred.reshape(shape) * (math.sqrt(3) / 65536)


def integers(seed: int, name: str, n: int, start: int, stop: int) -> np.ndarray:
    """n whole numbers from start to below stop, as token ids are: [n] int32."""
    return (start + words(seed, name, n) % np.uint64(stop - start)).astype(np.int32)


def ids(seed: int, name: str, n: int, vocab: int) -> np.ndarray:
    """n token ids; every third id has a tiny embedding: [n] int32."""
    result = integers(seed, name, n, TINY_IDS.stop, vocab)
    result[::3] = integers(seed, f"{name}.tiny", len(result[::3]), TINY_IDS.start, TINY_IDS.stop)
    return result


def weight(seed: int, name: str, shape: tuple[int, ...], d_kv: int) -> np.ndarray:
    """One weight of a model in which mistakes are visible: float64, rounded later when it is stored.

    Attention is not uniform, the absolute inputs of GELU are mostly between 1 and 3, and gains are not 1. The layers of
    the decoder have more weight than the last token's embedding, so that answers do not repeat one token.
    """
    x, kind = normal(seed, name, shape), name.rsplit(".", 1)[-1]
    if kind.endswith("norm"):
        return 1 + x / 4
    if kind == "embedding":
        x[TINY_IDS.start : TINY_IDS.stop] *= TINY
        return x / 2
    if kind == "relative_attention_bias":
        return x
    fan_in = shape[-1] if kind == "lm_head" else shape[0]
    gain = {"q": 1.5 / math.sqrt(d_kv), "wi_0": 1.5, "wo": 0.75}.get(kind, 1.0)
    decoder_gain = 2 if name.startswith("decoder.") and kind in ("o", "wo") else 1
    return x * (decoder_gain * gain / math.sqrt(fan_in))
