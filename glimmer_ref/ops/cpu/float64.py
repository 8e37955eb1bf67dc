"""float64 on the CPU: the reference backend computes it, since the kernels are for float32 only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def in_float64(operation: Callable[..., Any], *args: Any) -> Any:
    """Runs an operation of the reference backend on contiguous arrays, so that memory layout changes no bit."""
    return operation(*(np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x for x in args))
