"""The kernels' backend, bound so that each kernel is compiled where a test first needs it.

`bind` compiles all kernels. At the head of a test file, it would do so in every process that collects the tests, and
all these processes would compile the same kernels at the same time.
"""

from __future__ import annotations

from glimmer_ref.ops import Ops
from glimmer_ref.ops.cpu import ops as backend

FAST = Ops(backend)
