"""Processes that compile kernels into the cache, each some of them, so that a first start uses several processors.

numba optimises every function that a kernel calls, and compiles it to machine code, before it does the same with the
kernel itself, which contains copies of them. Here only the kernels are optimised and compiled; the other functions are
linked into them as they are. This needs changes of numba's own classes, so it is done in no process of the user's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakSet

SCRIPT = """
import json, sys
path, module, part = json.loads(sys.argv[1])
sys.path[:] = path
from glimmer_ref.ops.cpu.runtime import compile_worker
compile_worker.work(module, part)
"""


def _without_wrappers() -> None:
    """A function that is compiled while another is, because that one calls it, cannot be called from Python."""
    from numba.core import dispatcher

    module: Any = dispatcher
    kernel, compiler = module.Dispatcher, module._FunctionCompiler
    compile_, customize, depth = kernel.compile, compiler._customize_flags, 0

    def counted(self: Any, signature: Any) -> Any:
        nonlocal depth
        depth += 1
        try:
            return compile_(self, signature)
        finally:
            depth -= 1

    def customized(self: Any, flags: Any) -> Any:
        flags = customize(self, flags)
        if depth > 1:
            flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        return flags

    kernel.compile, compiler._customize_flags = counted, customized


def _on_demand() -> None:
    """A library is optimised and compiled when the address of one of its functions, or its code, is asked for."""
    from numba.core import codegen

    library: Any = codegen.JITCodeLibrary
    generator: Any = codegen.JITCPUCodegen
    optimize, finalize, set_env = library._optimize_final_module, library._finalize_final_module, generator.set_env
    address, serialize = library.get_pointer_to_function, library.serialize_using_object_code
    waiting: WeakSet[Any] = WeakSet()  # libraries that were linked but not compiled

    def finalized(self: Any) -> None:
        if self in waiting:
            self._finalized = True
        else:  # it was loaded from the cache
            finalize(self)

    def compiled(self: Any) -> None:
        if self in waiting:
            waiting.remove(self)
            optimize(self)
            finalize(self)

    def found(self: Any, name: str) -> Any:
        self._ensure_finalized()
        if self in waiting and not any(f.name == name and not f.is_declaration for f in self._final_module.functions):
            return 0
        compiled(self)
        return address(self, name)

    def serialized(self: Any) -> Any:
        compiled(self)
        return serialize(self)

    def set_if_compiled(self: Any, name: str, env: Any) -> None:
        if self._engine.get_global_value_address(name):
            set_env(self, name, env)

    library._optimize_final_module, library._finalize_final_module = lambda self: waiting.add(self), finalized
    library.get_pointer_to_function, library.serialize_using_object_code = found, serialized
    generator.set_env = set_if_compiled


def work(module: str, part: str) -> None:
    """Call a function without arguments that runs some kernels; what is compiled is kept in the cache."""
    _without_wrappers()
    _on_demand()
    getattr(import_module(module), part)()


def compile_parts(module: str, parts: Sequence[str]) -> None:
    """Call each of these functions of a module in a process of its own, all at once, and wait for their end.

    An error is not reported: whoever needs a kernel compiles it if it is not in the cache.
    """
    if getattr(sys, "frozen", False) or "python" not in Path(sys.executable or "").name.lower():
        return  # there is no Python to be started
    processes = []
    try:
        for part in parts:
            command = [sys.executable, "-I", "-c", SCRIPT, json.dumps([sys.path, module, part])]
            nothing = subprocess.DEVNULL
            processes.append(subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing))
        for process in processes:
            process.wait()
    except OSError:  # no more processes
        pass
    finally:
        for process in processes:  # after Ctrl-C, or if not all could be started
            with suppress(OSError):
                process.kill()
            process.wait()
