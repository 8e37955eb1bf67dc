"""Is a backend right on this machine? python -m glimmer_ref.ops.selftest [cuda | numba | numpy] [--quick]

Every operation at sizes of T5.1.1-base, on random operands, held against the reference backend in float64 with the same
numbers; before each, memory is filled with NaN and given back, so that what a kernel forgets to write shows.
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

# Largest difference by the largest number: float32's own noise at these sizes, and operands rounded to bfloat16.
MOST = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 2e-2}


class Line(NamedTuple):
    """What one operation gave: the largest difference from the reference by the largest number, and its seconds."""

    name: str
    worst: float
    most: float
    seconds: float

    @property
    def ok(self) -> bool:
        return self.worst <= self.most  # a NaN is not

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "WRONG"
        return f"{self.name:42} {self.worst:9.2e} of at most {self.most:.0e}  {self.seconds:8.4f} s  {verdict}"


class Size(NamedTuple):
    """How large operands are: d_model, d_ff, vocabulary, heads of c columns, and tokens of each sequence."""

    d: int = 768
    f: int = 2048
    v: int = 32128
    heads: int = 12
    c: int = 64
    lengths: tuple[int, ...] = (352, 1, 77, 300, 352)


REAL, QUICK = Size(), Size(64, 96, 320, 4, 16, (20, 1, 7))


def _spans(queries: np.ndarray, keys: np.ndarray) -> SequenceLayout:
    """The queries are the last of their keys where there are enough, else the first tokens."""
    return SequenceLayout(
        queries, keys, token_positions(queries, start=np.maximum(keys - queries, 0)), token_positions(keys)
    )


def cases(size: Size, dtype: str, seed: int = 0) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """A name, an operation and its arguments on the host."""
    rng, n = np.random.default_rng(seed), np.array(size.lengths, np.int64)
    rows, hc = int(n.sum()), size.heads * size.c

    def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    x, y, wide = draw(rows, size.d), draw(rows, size.d), draw(rows, size.f)
    table, ids = draw(size.v, size.d, scale=size.d**-0.5), rng.integers(0, size.v, rows)
    yield "embed", "embed", (table, ids)
    yield "rms_norm", "rms_norm", (x, 1 + draw(size.d, scale=0.2), 1e-6)
    for what, count in (("all tokens", rows), ("one token", 1), ("seven tokens", 7)):
        yield f"linear, d to f, {what}", "linear", (x[:count], draw(size.d, size.f, scale=size.d**-0.5))
        yield f"linear, f to d, {what}", "linear", (wide[:count], draw(size.f, size.d, scale=size.f**-0.5))
    yield "linear, columns not in fours", "linear", (x[:, :-3], draw(size.d - 3, 30, scale=size.d**-0.5))
    yield "lm_head_logits, one token", "lm_head_logits", (table, x[:1])
    yield "lm_head_logits, some tokens", "lm_head_logits", (table, x[: min(rows, 64)])
    yield "dot", "dot", (x, draw(size.d, 1, scale=size.d**-0.5))
    yield "add", "add", (x, y)
    yield "multiply", "multiply", (x, y)
    yield "scale", "scale", (x, 0.3)
    yield "gated_gelu", "gated_gelu", (wide, draw(rows, size.f))
    yield "relu", "relu", (wide,)
    yield from _attentions(size, n, hc, draw)
    yield "interleave_concat", "interleave_concat", (x, n, y, n)
    yield "gather_sequences", "gather_sequences", (x, n, np.array([2, 0, 2]))
    yield "first_token", "first_token", (x, n)
    yield "mean", "mean", (x, n)
    logits = draw(rows, size.v, scale=3)
    yield "argmax", "argmax", (logits,)
    yield "log_likelihood", "log_likelihood", (logits, ids, n)
    yield "rank_kl", "rank_kl", (draw(rows), draw(rows, scale=2), n, 0.7, "printed")


def _attentions(
    size: Size, n: np.ndarray, hc: int, draw: Callable[..., np.ndarray]
) -> Iterator[tuple[str, str, tuple[Any, ...]]]:
    """Attention as an encoder, a decoder that is taught, and one that writes use it."""
    ones, reach = np.ones_like(n), int(n.max())
    kinds: list[tuple[str, Any, Any, bool, bool]]
    kinds = [("encoder", n, n, True, False), ("decoder", n, n, True, True), ("cross", n, n[::-1].copy(), False, False)]
    kinds += [("a step, itself", ones, n, True, True), ("a step, its memory", ones, 5 * n, False, False)]
    for what, queries, keys, biased, causal in kinds:
        q, k = (draw(int(m.sum()), hc, scale=size.c**-0.25) for m in (queries, keys))
        bias = draw(2 * reach + 1, size.heads) if biased else None
        args = (q, k, draw(int(keys.sum()), hc), bias, _spans(queries, keys), size.heads, causal)
        yield f"attention, {what}", "attention", args
        if size.d < 512:  # [h i j] of the real sizes is not what this is for
            yield f"attention_probs, {what}", "attention_probs", (*args[:2], *args[3:])


def poison(ops: Ops, size: Size) -> None:
    """NaN where results will come to lie, in as many pieces."""
    filled = [
        ops.to_device(np.full((sum(size.lengths), width), np.nan, np.float32)) for width in (size.f, size.d, size.d)
    ]
    del filled


def run(backend: str, size: Size = REAL, dtypes: tuple[str, ...] = ("float32",), say: Any = None) -> list[Line]:
    """Every case by this backend and by the reference backend; with "cuda" also products in bfloat16.

    Raises:
        InputError: a backend that cannot run here.
    """
    ops, reference, lines = bind(backend), bind("numpy"), []
    for dtype in dtypes:
        for title, name, args in cases(size, dtype):
            packs = ("float32", "bfloat16") if backend == "cuda" and name == "linear" and dtype == "float32" else ("",)
            for precision in packs:
                poison(ops, size)
                lines.append(_held(ops, reference, f"{title}, {precision or dtype}", name, args, dtype, precision))
                if say is not None:
                    say(str(lines[-1]))
    return lines


def _held(ops: Ops, reference: Ops, title: str, name: str, args: Any, dtype: str, precision: str) -> Line:
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
    worst = max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)
    return Line(title, worst, MOST[precision or dtype], seconds)


def main() -> int:
    """Print a line an operation; 0 if all are right, 1 if one is not, 2 if the backend cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m glimmer_ref.ops.selftest", description=__doc__.split("\n")[0])
    parser.add_argument("ops", nargs="?", choices=BACKENDS, default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    try:
        lines = run(args.ops, QUICK if args.quick else REAL, ("float32", "float64"), say)
    except InputError as refused:
        note(str(refused))
        return 2
    wrong = sum(not line.ok for line in lines)
    say(f"{len(lines) - wrong} of {len(lines)} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
