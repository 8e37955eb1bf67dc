"""Tests a backend on this machine: python -m glimmer_ref.ops.selftest [cuda | numba | numpy] [--quick]

Every operation runs at the sizes of T5.1.1-base on random operands, and its result is compared with that of the
reference backend in float64. Before each operation, memory is filled with NaN and freed again. So a value that a kernel
fails to write is detected.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..ragged import token_positions
from ..terminal import note, say
from . import BACKENDS, Ops, SequenceLayout, bind

# Largest allowed error, relative to the largest number. It allows rounding errors of float32, or operands in bfloat16.
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 2e-2}


class Comparison(NamedTuple):
    """The result of one comparison.

    Args:
        error: the largest difference from the reference, relative to the reference's largest number.
        tolerance: the largest error that is allowed.
        seconds: time of the operation.
    """

    name: str
    error: float
    tolerance: float
    seconds: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # False for NaN

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "WRONG"
        return f"{self.name:42} {self.error:9.2e} of at most {self.tolerance:.0e}  {self.seconds:8.4f} s  {verdict}"


class Size(NamedTuple):
    """Sizes of the operands: d_model, d_ff, vocabulary, heads of c columns, and tokens of each sequence."""

    d: int = 768
    f: int = 2048
    v: int = 32128
    heads: int = 12
    c: int = 64
    lengths: tuple[int, ...] = (352, 1, 77, 300, 352)


REAL, QUICK = Size(), Size(64, 96, 320, 4, 16, (20, 1, 7))


def _layout(queries: np.ndarray, keys: np.ndarray) -> SequenceLayout:
    """The queries are the last tokens of their sequence if there are enough keys, otherwise the first."""
    return SequenceLayout(
        queries, keys, token_positions(queries, start=np.maximum(keys - queries, 0)), token_positions(keys)
    )


def cases(size: Size, dtype: str, seed: int = 0) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Each case: its title, the operation, and the arguments on the host."""
    rng, n = np.random.default_rng(seed), np.array(size.lengths, np.int64)
    rows, hc = int(n.sum()), size.heads * size.c

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    x, y, wide = normal(rows, size.d), normal(rows, size.d), normal(rows, size.f)
    table, ids = normal(size.v, size.d, scale=size.d**-0.5), rng.integers(0, size.v, rows)
    yield "embed", "embed", (table, ids)
    yield "rms_norm", "rms_norm", (x, 1 + normal(size.d, scale=0.2), 1e-6)
    for what, count in (("all tokens", rows), ("one token", 1), ("seven tokens", 7)):
        yield f"linear, d to f, {what}", "linear", (x[:count], normal(size.d, size.f, scale=size.d**-0.5))
        yield f"linear, f to d, {what}", "linear", (wide[:count], normal(size.f, size.d, scale=size.f**-0.5))
    yield "linear, columns not a multiple of four", "linear", (x[:, :-3], normal(size.d - 3, 30, scale=size.d**-0.5))
    yield "lm_head_logits, one token", "lm_head_logits", (table, x[:1])
    yield "lm_head_logits, some tokens", "lm_head_logits", (table, x[: min(rows, 64)])
    yield "dot", "dot", (x, normal(size.d, 1, scale=size.d**-0.5))
    yield "add", "add", (x, y)
    yield "multiply", "multiply", (x, y)
    yield "scale", "scale", (x, 0.3)
    yield "gated_gelu", "gated_gelu", (wide, normal(rows, size.f))
    yield "relu", "relu", (wide,)
    yield from _attentions(size, n, hc, normal)
    yield "interleave_concat", "interleave_concat", (x, n, y, n)
    yield "gather_sequences", "gather_sequences", (x, n, np.array([2, 0, 2]))
    yield "first_token", "first_token", (x, n)
    yield "mean", "mean", (x, n)
    logits = normal(rows, size.v, scale=3)
    yield "argmax", "argmax", (logits,)
    yield "log_likelihood", "log_likelihood", (logits, ids, n)
    yield "rank_kl", "rank_kl", (normal(rows), normal(rows, scale=2), n, 0.7, "printed")


def _attentions(
    size: Size, n: np.ndarray, hc: int, normal: Callable[..., np.ndarray]
) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Attention in an encoder, in a decoder over a given target, and in a decoder that generates."""
    ones, reach = np.ones_like(n), int(n.max())
    kinds: list[tuple[str, Any, Any, bool, bool]]
    kinds = [("encoder", n, n, True, False), ("decoder", n, n, True, True), ("cross", n, n[::-1].copy(), False, False)]
    kinds += [("a step, itself", ones, n, True, True), ("a step, its memory", ones, 5 * n, False, False)]
    for what, queries, keys, biased, causal in kinds:
        q, k = (normal(int(m.sum()), hc, scale=size.c**-0.25) for m in (queries, keys))
        bias = normal(2 * reach + 1, size.heads) if biased else None
        args = (q, k, normal(int(keys.sum()), hc), bias, _layout(queries, keys), size.heads, causal)
        yield f"attention, {what}", "attention", args
        if size.d < 512:  # with the full sizes, [h i j] would be too large
            yield f"attention_probs, {what}", "attention_probs", (*args[:2], *args[3:])


def poison(ops: Ops, size: Size) -> None:
    """Fills memory with NaN and frees it, in pieces of the sizes of results."""
    filled = [
        ops.to_device(np.full((sum(size.lengths), width), np.nan, np.float32)) for width in (size.f, size.d, size.d)
    ]
    del filled


def run(backend: str, size: Size = REAL, dtypes: tuple[str, ...] = ("float32",), say: Any = None) -> list[Comparison]:
    """Runs every case with this backend and with the reference backend; for "cuda" also products in bfloat16.

    Args:
        say: called with the text of each comparison.

    Raises:
        InputError: the backend cannot run here.
    """
    ops, reference, lines = bind(backend), bind("numpy"), []
    for dtype in dtypes:
        for title, name, args in cases(size, dtype):
            packs = ("float32", "bfloat16") if backend == "cuda" and name == "linear" and dtype == "float32" else ("",)
            for precision in packs:
                poison(ops, size)
                lines.append(_compare(ops, reference, f"{title}, {precision or dtype}", name, args, dtype, precision))
                if say is not None:
                    say(str(lines[-1]))
    return lines


def _compare(ops: Ops, reference: Ops, title: str, name: str, args: Any, dtype: str, precision: str) -> Comparison:
    given = [ops.to_device(a) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
    if precision:
        given[1] = ops.pack(args[1], precision)
    start = time.perf_counter()
    got = getattr(ops, name)(*given)
    got = [a if isinstance(a, np.ndarray) else ops.to_host(a) for a in (got if isinstance(got, list) else [got])]
    seconds = time.perf_counter() - start
    exact = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]
    right = getattr(reference, name)(*exact)
    pairs = zip(got, right if isinstance(right, list) else [right], strict=True)
    error = max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)
    return Comparison(title, error, TOLERANCE[precision or dtype], seconds)


def main() -> int:
    """Prints a line for each case; returns 0 if all are right, 1 if one is not, 2 if the backend cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m glimmer_ref.ops.selftest", description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="?", choices=BACKENDS, default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    try:
        lines = run(args.ops, QUICK if args.quick else REAL, ("float32", "float64"), say)
    except InputError as error:
        note(str(error))
        return 2
    wrong = sum(not line.ok for line in lines)
    say(f"{len(lines) - wrong} of {len(lines)} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
