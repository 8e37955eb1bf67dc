"""float64 on the CPU is the reference backend's: kernels are for float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def in_float64(operation: Callable[..., Any], *args: Any) -> Any:
    """An operation of the reference backend, on contiguous arrays: how operands lie in memory changes no bit."""
    return operation(*(np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x for x in args))
