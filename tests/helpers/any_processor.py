"""A mark for tests that compile for processors other than the one at hand."""

from __future__ import annotations

import llvmlite.binding as llvm
import pytest

# LLVM 15, of the lowest numba that is promised, ends the process for some of them. It compiles for its own processor.
WITH_LLVM_OF_ALL = pytest.mark.skipif(llvm.llvm_version_info < (20,), reason="LLVM before 20 lacks some processors")
