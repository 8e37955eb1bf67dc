"""A digest of weights that depends only on their values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from ..ops import Ops
from ..ragged import Array


def weights_digest(ops: Ops, weights: Mapping[str, Array]) -> str:
    """SHA-256 of named weights as float32; their dtype and their layout in memory do not matter."""
    digest = hashlib.sha256()
    for name, param in weights.items():
        x = np.asarray(ops.to_host(param)).astype("<f4", order="C")
        digest.update(f"{name} {list(x.shape)}\n".encode())
        digest.update(x.reshape(-1).data)
    return digest.hexdigest()
