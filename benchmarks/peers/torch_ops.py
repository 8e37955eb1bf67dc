"""The operations in eager PyTorch, so that the same code of the model runs on PyTorch's own libraries.

A backend for `benchmarks/suites/cuda.py` only, which compares our kernels with cuBLAS and scaled_dot_product_attention.
Sequences of one length go through attention as a batch, others one by one. Products in float32 do not use TF32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from glimmer_ref.ops import SequenceLayout
from glimmer_ref.ops.interface import Factors
from glimmer_ref.ragged import Array, Ints, offsets

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_grad_enabled(False)
torch.backends.cuda.matmul.allow_tf32 = False


def to_device(x: Any) -> Array:
    return torch.from_numpy(np.ascontiguousarray(x)).to(DEVICE)


def to_host(x: Array) -> Any:
    return x if isinstance(x, np.ndarray) else x.cpu().numpy()


def pack(w: Array, precision: str) -> Array:
    return to_device(w).to(getattr(torch, precision))


def pack_table(table: Array, precision: str) -> Array:
    return to_device(table)


def _index(ids: Ints) -> Array:
    return to_device(np.asarray(ids, np.int64))


def embed(table: Array, ids: Ints) -> Array:
    return torch.nn.functional.embedding(_index(ids), table)


def lm_head_logits(table: Array, x: Array) -> Array:
    return x @ table.T


def linear(x: Array, w: Array) -> Array:
    return (x.to(w.dtype) @ w).to(x.dtype)


def dot(x: Array, w: Array) -> Array:
    return (x * w[:, 0]).sum(-1)


def add(x: Array, y: Array) -> Array:
    return x + y


def scale(x: Array, factor: float) -> Array:
    return x * factor


def multiply(x: Array, factors: Factors) -> Array:
    return x * factors


def rms_norm(x: Array, gain: Array, eps: float) -> Array:
    return torch.nn.functional.rms_norm(x, gain.shape, gain, eps)


def gated_gelu(a: Array, b: Array) -> Array:
    return torch.nn.functional.gelu(a, approximate="tanh") * b


def relu(a: Array) -> Array:
    return torch.relu(a)


def _mask(bias: Array | None, at_q: Ints, at_k: Ints, causal: bool) -> Array | None:
    """The bias and mask that are added to one sequence's scores: [h i j], or [i j] without a bias."""
    distance = _index(at_k)[None, :] - _index(at_q)[:, None]
    added = None if bias is None else bias[distance + len(bias) // 2].permute(2, 0, 1)
    if not causal:
        return added
    unseen = torch.where(distance > 0, -torch.inf, 0.0).to(torch.float32 if bias is None else bias.dtype)
    return unseen if added is None else added + unseen


def attention(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    keep: Factors | None = None,
    precision: str | None = None,
) -> Array:
    assert keep is None, "for what does not learn"
    n, m = layout.query_lengths, layout.key_lengths
    alike = len(set(n.tolist())) == len(set(m.tolist())) == 1
    b = len(n) if alike and _repeated(layout.query_positions, len(n)) and _repeated(layout.key_positions, len(n)) else 1
    outs, i0, j0 = [], 0, 0
    for i, j in [(int(n[0]), int(m[0]))] if b == len(n) else zip(n.tolist(), m.tolist(), strict=True):
        rows, columns = slice(i0, i0 + b * i), slice(j0, j0 + b * j)
        mask = _mask(bias, layout.query_positions[i0 : i0 + i], layout.key_positions[j0 : j0 + j], causal)
        qs, ks, vs = (
            x[at].reshape(b, -1, heads, x.shape[1] // heads).transpose(1, 2)
            for x, at in ((q, rows), (k, columns), (v, columns))
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(qs, ks, vs, attn_mask=mask, scale=1.0)
        outs.append(mixed.transpose(1, 2).reshape(b * i, -1))
        i0, j0 = i0 + b * i, j0 + b * j
    return torch.cat(outs)


def _repeated(positions: Ints, b: int) -> bool:
    rows = positions.reshape(b, -1)
    return bool((rows == rows[0]).all())


def attention_probs(
    q: Array,
    k: Array,
    bias: Array | None,
    layout: SequenceLayout,
    heads: int,
    causal: bool,
    precision: str | None = None,
) -> list[Array]:
    raise NotImplementedError("for traces, which this does not make")


def interleave_concat(x: Array, x_lengths: Ints, y: Array, y_lengths: Ints) -> Array:
    xs, ys, parts = offsets(x_lengths), offsets(y_lengths), []
    for i in range(len(x_lengths)):
        parts += [x[xs[i] : xs[i + 1]], y[ys[i] : ys[i + 1]]]
    return torch.cat(parts)


def gather_sequences(x: Array, lengths: Ints, index: Ints) -> Array:
    starts = offsets(lengths)
    return torch.cat([x[:0], *(x[starts[i] : starts[i + 1]] for i in index)])


def first_token(x: Array, lengths: Ints) -> Array:
    return x[_index(offsets(lengths)[:-1])]


def mean(x: Array, lengths: Ints) -> Array:
    return torch.stack([part.mean(0) for part in torch.split(x, lengths.tolist())])


def argmax(x: Array) -> Ints:
    return to_host(x.argmax(-1))


def log_likelihood(logits: Array, targets: Ints, lengths: Ints) -> Array:
    chosen = torch.log_softmax(logits, -1).gather(1, _index(targets)[:, None])[:, 0]
    return torch.stack([part.sum() for part in torch.split(chosen, lengths.tolist())])


def rank_kl(scores: Array, log_p_lm: Array, counts: Ints, tau: float, direction: str) -> Array:
    raise NotImplementedError("for what does not learn")
