"""Sections 2.1, 2.2 and 3.3: the multiply-adds of one question, as the paper prints them.

One "FLOP" in the paper is one multiply-add (MAC). Hardware makers count a multiply-add as two FLOPs. The formulas use
plain arithmetic: integers and fractions give exact results, and symbols give formulas. `costs.flops` counts the same
costs from the true shapes of all matrices.
"""

from __future__ import annotations

from typing import Any

Number = Any  # int, Fraction, or anything with their arithmetic
Macs = dict[str, Number]  # multiply-adds by component


def f_fid(k: Number, n_p: Number, n_t: Number, L: Number, d: Number) -> Macs:
    """F_FiD = k n_p L 14 d^2 + n_t L 14 d^2.

    Paper: 2.1 F_FiD
    """
    return {
        "Encoder and cross-attention": k * n_p * L * 14 * d**2,
        "Decoder": n_t * L * 14 * d**2,
    }


def f_lumen(k: Number, n_p: Number, n_t: Number, L: Number, d: Number, alpha: Number) -> Macs:
    """F_lumen = k n_p alpha L 12 d^2 + k n_p L 2 d^2 + n_t L 14 d^2.

    Paper: 2.2 F_lumen
    """
    return {
        "Encoder": k * n_p * alpha * L * 12 * d**2,
        "Cross-attention": k * n_p * L * 2 * d**2,
        "Decoder": n_t * L * 14 * d**2,
    }


def f_glimmer(
    k: Number, m: Number, n_p: Number, n_t: Number, L: Number, d: Number, alpha: Number, beta: Number
) -> Macs:
    """F_glimmer = F_lumen with m passages + (k - m) n_p beta alpha L 12 d^2.

    Paper: 3.3 F_glimmer
    """
    return {
        **f_lumen(m, n_p, n_t, L, d, alpha),
        "Reranking": (k - m) * n_p * beta * alpha * L * 12 * d**2,
    }
