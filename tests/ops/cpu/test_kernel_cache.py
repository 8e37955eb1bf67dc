"""Compiled kernels on disk: found again, and no trouble when damaged, unwritable, stale or shared.

Every step is a process of its own, which compiles or loads the one kernel that is quickest to compile, or a
tile, which others call by its address.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import glimmer_ref

PACKAGE = Path(glimmer_ref.__file__).parent
SLOW = pytest.mark.slow

RUN = """
import numpy as np
from glimmer_ref.ops import numpy_backend
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.cpu.runtime import compile_cache
x = np.linspace(-3, 3, 60, dtype="float32").reshape(3, 20)
def norm():
    assert abs(cpu_ops.rms_norm(x, x[0], 1e-6) - numpy_backend.rms_norm(x, x[0], 1e-6)).max() < 1e-5
"""
READY = RUN + "compile_cache.ready(norm)\n"

TWO = (
    READY
    + """
assert abs(cpu_ops.gated_gelu(x, x) - numpy_backend.gated_gelu(x, x)).max() < 1e-5
"""
)

EMBED = """
import numpy as np
from glimmer_ref.ops.cpu import ops as cpu_ops
from glimmer_ref.ops.cpu.runtime import compile_cache
x = np.ones((2, 3), "float32")
def embed():
    assert cpu_ops.embed_backward(x, x, np.array([1, 1]))[0].tolist() == [[0, 0, 0], [2, 2, 2]]
compile_cache.ready(embed)
"""

TILE = """
import ctypes
import numpy as np
from glimmer_ref.ops.cpu.runtime import compile_cache
from glimmer_ref.ops.cpu.runtime.allocator import aligned
from glimmer_ref.ops.cpu.kernels.gemm import tile_address
def tile():
    a, b, c = aligned(1, 16), aligned(2, 7, 16), aligned(1, 32)
    a[:], b[:] = 2, 3
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(tile_address("float32"))
    call(1, a.ctypes.data, 64, b[0].ctypes.data, b[1].ctypes.data, 7, c.ctypes.data, 128)
    assert (c == 42).all()
compile_cache.ready(tile)
"""

FORBIDDEN = """
import numba.core.compiler
def no(*_, **__):
    raise SystemError
numba.core.compiler.CompilerBase.compile_extra = no
"""

LOST_FOLDER = """
import shutil
shutil.rmtree(compile_cache.folder())
compile_cache.folder().write_text("a file where the folder was")
norm()
"""

PARTS = READY.replace("ready(norm)", "ready(norm, 'glimmer_ref.ops.cpu.ops', ('_warm_up_for_test',))")

PART = """

def _warm_up_for_test() -> None:
    x = np.ones((3, 20), np.float32)
    rms_norm(x, x[0], 1e-6)
"""

PARALLEL = """
import os, sys, threading, numba
from glimmer_ref.ops.cpu.runtime import thread_pool
assert numba.config.CACHE_DIR == os.environ["NUMBA_CACHE_DIR"]
thread_pool.WORTH_A_THREAD = 1
def often():
    for _ in range(300):
        norm()
    done.append(True)
done = []
callers = [threading.Thread(target=often) for _ in range(3)]
[c.start() for c in callers]
[c.join() for c in callers]
assert len(done) == 3
pid = os.fork()
if pid == 0:
    often()
    os._exit(len(done))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
norm()
"""


def start(script: str, cache: Path, package: Path = PACKAGE, **settings: str) -> subprocess.Popen[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    env |= {"PYTHONPATH": str(package.parent), "GLIMMER_REF_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", script]
    return subprocess.Popen(
        command, env=env | settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=package.parent
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    """The lines it wrote to stderr; it must end well and write nothing else."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert not out
    return err.splitlines()


def run(script: str, cache: Path, package: Path = PACKAGE, **settings: str) -> list[str]:
    return finish(start(script, cache, package, **settings))


def first_run(script: str, cache: Path) -> Path:
    """The folder that a first run fills, and says so in one line."""
    (line,) = run(script, cache)
    (folder,) = cache.iterdir()
    assert line.startswith("glimmer_ref: compiling kernels for this machine, once (about ")
    assert line.endswith(f"; kept in {folder}")
    return cache


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that a first run has filled, and has said so in one line."""
    return first_run(READY, tmp_path_factory.mktemp("cache") / "new")


@pytest.fixture(scope="module")
def warm_tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a tile."""
    return first_run(TILE, tmp_path_factory.mktemp("tile") / "new")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of two kernels."""
    return first_run(TWO, tmp_path_factory.mktemp("two") / "new")


def stored(cache: Path, pattern: str) -> Path:
    (file,) = cache.glob(f"*/*/*{pattern}")
    return file


def test_a_second_run_loads_and_says_nothing(warm: Path) -> None:
    loaded = "assert sum(cpu_ops.kernels.rms_norm.run.stats.cache_hits.values()) == 1"
    assert run(READY + loaded, warm) == []


INDEX, CODE = (".nbi", b""), (".nbc", b"\x80\x04not a pickle")


@pytest.mark.parametrize(
    ("filled", "script", "file", "damage"),
    [
        pytest.param("warm", READY, *INDEX, id="kernel's index", marks=SLOW),
        pytest.param("warm", READY, *CODE, id="kernel's code"),
        pytest.param("warm_tile", TILE, *INDEX, id="tile's index", marks=SLOW),
        pytest.param("warm_tile", TILE, *CODE, id="tile's code", marks=SLOW),
    ],
)
def test_a_damaged_file_is_made_anew(
    request: pytest.FixtureRequest, tmp_path: Path, filled: str, script: str, file: str, damage: bytes
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(request.getfixturevalue(filled), cache)
    stored(cache, file).write_bytes(damage)
    (line,) = run(script, cache)
    assert line.startswith("glimmer_ref: a kernel could not be loaded or stored; compiling again")
    assert stored(cache, file).read_bytes() != damage
    assert run(script, cache) == []


@SLOW
@pytest.mark.parametrize("ends", [(".1.nbc",), (".nbi",), (".nbi", ".1.nbc")], ids=["code", "index", "both"])
def test_two_kernels_files_swapped_are_made_anew(tmp_path: Path, two: Path, ends: tuple[str, ...]) -> None:
    """numba runs whatever code lies under a name, with whatever arguments: it ended in a segmentation fault."""
    cache = tmp_path / "cache"
    shutil.copytree(two, cache)
    for end in ends:
        one, other = (stored(cache, f"{name}-*{end}") for name in ("gated_gelu", "rms_norm"))
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
    assert len(run(TWO, cache)) <= 2
    assert run(TWO, cache) == []


def test_a_tile_is_loaded_not_compiled(warm_tile: Path) -> None:
    forbidden = (
        "import numba.core.compiler as c\ndef no(*_, **__): raise SystemError\nc.CompilerBase.compile_extra = no\n"
    )
    assert run(forbidden + TILE, warm_tile) == []


@pytest.fixture(scope="module")
def with_part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package that has a part with one kernel."""
    copy = tmp_path_factory.mktemp("part") / "glimmer_ref"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    with (copy / "ops" / "cpu" / "ops.py").open("a") as file:
        file.write(PART)
    return copy


def test_a_process_of_its_own_compiles_a_part(with_part: Path, tmp_path: Path) -> None:
    """The first process loads what the other one has compiled. What it calls by address is compiled there too."""
    (line,) = run(FORBIDDEN + PARTS, tmp_path, with_part)
    assert "once" in line
    assert run(FORBIDDEN + PARTS, tmp_path, with_part) == []


NO_PART = PARTS.replace("_warm_up_for_test", "there is none")
NO_PYTHON = "import sys; sys.executable = '/bin/false'\n" + PARTS


@SLOW
@pytest.mark.parametrize("script", [NO_PART, NO_PYTHON], ids=["the process fails", "no process"])
def test_what_no_process_has_compiled_is_compiled_here(script: str, with_part: Path, tmp_path: Path) -> None:
    (line,) = run(script, tmp_path, with_part)
    assert "once" in line
    assert run(FORBIDDEN + READY, tmp_path, with_part) == []


STOPPED = """
import os, signal, subprocess, threading
from glimmer_ref.ops.cpu.runtime import compile_worker
class Slow(subprocess.Popen):
    def __init__(self, command, **more):
        super().__init__([command[0], "-c", "import time; time.sleep(100)"], **more)
        started.append(self)
started = []
compile_worker.subprocess.Popen = Slow
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    compile_worker.compile_parts("glimmer_ref.ops.cpu.ops", ("one", "two"))
except KeyboardInterrupt:
    assert [p.poll() for p in started] == [-signal.SIGKILL] * 2
else:
    raise SystemError
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process sends itself Ctrl-C there")
def test_ctrl_c_ends_the_processes(tmp_path: Path) -> None:
    assert run(STOPPED, tmp_path) == []


ALL = """
import numpy as np
from glimmer_ref.ops import bind
from glimmer_ref.ops.cpu.runtime import compile_cache
bind("numba")
"""


@pytest.mark.slow
def test_the_processes_compile_all_that_is_needed(tmp_path: Path) -> None:
    """The process that answers compiles nothing, neither now nor later."""
    (line,) = run(FORBIDDEN + ALL, tmp_path)
    assert "once" in line
    assert run(FORBIDDEN + ALL, tmp_path) == []


def test_an_equal_installation_elsewhere_compiles_nothing(warm: Path, warm_tile: Path, tmp_path: Path) -> None:
    """Neither the folder of the installation nor the times of its files matter."""
    copy, ignored = tmp_path / "another" / "glimmer_ref", shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(PACKAGE, copy, ignore=ignored, copy_function=shutil.copyfile)
    assert run(FORBIDDEN + READY, warm, copy) == []
    assert run(FORBIDDEN + TILE, warm_tile, copy) == []


def test_an_edited_source_is_not_served_the_old_kernels(tmp_path: Path) -> None:
    """numba itself looks only at the file of the kernel; any file of `ops.cpu` must count."""
    copy, cache = tmp_path / "glimmer_ref", tmp_path / "cache"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    for edits in range(2):
        (line,) = run(READY, cache, copy)
        assert "once" in line
        assert len(list(cache.iterdir())) == edits + 1
        with (copy / "ops" / "cpu" / "runtime" / "thread_pool.py").open("a") as file:
            file.write("# edited\n")


@pytest.mark.parametrize("script", [pytest.param(READY, id="kernel"), pytest.param(TILE, id="tile", marks=SLOW)])
def test_without_a_writable_folder_all_works(tmp_path: Path, script: str) -> None:
    file = tmp_path / "file"
    file.write_text("no folder can be made here")
    (line,) = run(script, file / "cache", NUMBA_NUM_THREADS="1")
    assert line.endswith(f"; not kept: {file / 'cache'} cannot be written; set GLIMMER_REF_CACHE")
    assert list(tmp_path.iterdir()) == [file]


@SLOW
def test_a_folder_that_is_lost_on_the_way_does_no_harm(tmp_path: Path) -> None:
    (line,) = run(RUN + LOST_FOLDER, tmp_path)
    assert "could not be loaded or stored" in line


PRUNED = """
import shutil
shutil.rmtree(compile_cache.folder())
assert abs(cpu_ops.gated_gelu(x, x) - numpy_backend.gated_gelu(x, x)).max() < 1e-5
"""


def test_a_folder_that_another_process_removes_does_no_harm(tmp_path: Path) -> None:
    """What is loaded stays; a kernel that is first called now is compiled, and kept where the folder was."""
    (line,) = run(READY + PRUNED, tmp_path)
    assert "once" in line
    assert [x.name.split("-")[0] for x in tmp_path.glob("*/*/*.nbc")] == ["elementwise.gated_gelu"]


@pytest.mark.parametrize(("ages", "left"), [((5, 2, 60, 3, 4), "bde"), ((0.5, 0.9, 0.7, 0.6, 60), "abcd")])
def test_the_most_recently_used_folders_are_kept(tmp_path: Path, ages: tuple[float, ...], left: str) -> None:
    """Older ones go when a new one is made, except those that were used today, and whatever else lies there."""
    days = {"kernels-" + c * 16: age for c, age in zip("abcde", ages, strict=True)}
    for name, age in days.items():
        (tmp_path / name / "some").mkdir(parents=True)
        (tmp_path / name / "some" / "kernel.nbc").write_bytes(b"code")
        os.utime(tmp_path / name, (time.time() - 86400 * age,) * 2)
    for name in ("kernels-of-mine", "another"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (0, 0))
    ready = "from glimmer_ref.ops.cpu.runtime import compile_cache\nprint(compile_cache.folder().name)"
    own = start(ready, tmp_path).communicate(timeout=120)[0].strip()
    kept = {own, "kernels-of-mine", "another", *("kernels-" + c * 16 for c in left)}
    assert {x.name for x in tmp_path.iterdir()} == kept
    assert all((tmp_path / name / "some" / "kernel.nbc").exists() for name in kept & days.keys())
    os.utime(tmp_path / own, (0, 0))
    assert start(ready, tmp_path).communicate(timeout=120)[0].strip() == own
    assert time.time() - (tmp_path / own).stat().st_mtime < 3600, "marked as used"


@SLOW
def test_two_first_runs_at_once(tmp_path: Path) -> None:
    both = [start(READY, tmp_path) for _ in range(2)]
    for process in both:
        finish(process)
    assert run(READY, tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_threads_forks_and_a_users_own_numba_cache(warm: Path, tmp_path: Path) -> None:
    """Several Python threads at once, then a forked child; NUMBA_CACHE_DIR stays the user's."""
    users = {"NUMBA_CACHE_DIR": str(tmp_path / "users"), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    assert run(READY + PARALLEL, warm, NUMBA_NUM_THREADS="2", **users) == []
    assert not (tmp_path / "users").exists()


def test_without_compiling(tmp_path: Path) -> None:
    """numba's switch leaves a kernel its plain loop, where that uses nothing of LLVM's."""
    assert run(EMBED, tmp_path, NUMBA_DISABLE_JIT="1") == []


NO_HOME = """
import os, sys
if hasattr(os, "getuid"):
    import pwd
    def nobody(*_):
        raise KeyError("uid not found")
    pwd.getpwuid = nobody
import tempfile
from pathlib import Path
from glimmer_ref.ops.cpu.runtime import compile_cache
print(compile_cache.root(), compile_cache.folder())
"""


def _placed(place: Path, **settings: str) -> tuple[str, str]:
    """Where kernels go for a user of whom nothing is known, the working directory being an empty folder."""
    (place / "tmp").mkdir(exist_ok=True)
    unknown = ("HOME", "XDG_CACHE_HOME", "GLIMMER_REF_CACHE", "USERPROFILE", "HOMEDRIVE", "HOMEPATH")
    env = {k: v for k, v in os.environ.items() if k not in unknown}
    env |= {"PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(place / "tmp"), **settings}
    done = subprocess.run(
        [sys.executable, "-c", NO_HOME], env=env, cwd=place, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    root, folder = done.stdout.split()
    return root, folder


@pytest.mark.skipif(os.name != "posix", reason="who has no home is told by POSIX")
@pytest.mark.parametrize("home", [None, "relative", *(pytest.param(x, marks=SLOW) for x in ("", "/no/such/home", "~"))])
def test_without_a_home_kernels_go_to_the_temporary_folder(tmp_path: Path, home: str | None) -> None:
    root, folder = _placed(tmp_path, **({} if home is None else {"HOME": home}))
    assert root == "None"
    assert Path(folder).parent == tmp_path / "tmp" / f"glimmer_ref-{os.getuid()}"
    assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
    assert [x.name for x in tmp_path.iterdir()] == ["tmp"]  # and no folder "~"


@pytest.mark.skipif(os.name != "posix", reason="who else may write to a folder is told by POSIX")
@pytest.mark.parametrize("how", ["open to others", *(pytest.param(x, marks=SLOW) for x in ("a link", "a file"))])
def test_a_temporary_folder_of_somebody_else_is_not_used(tmp_path: Path, how: str) -> None:
    """Kernels are run as they are found: nobody else may put one there."""
    (tmp_path / "tmp").mkdir()
    place = tmp_path / "tmp" / f"glimmer_ref-{os.getuid()}"
    if how == "open to others":
        place.mkdir()
        place.chmod(0o777)
    elif how == "a link":
        (tmp_path / "theirs").mkdir()
        place.symlink_to(tmp_path / "theirs")
    else:
        place.write_text("")
    assert _placed(tmp_path)[1] == "None"


INTERRUPTED = """
import os, signal
from numba.core.dispatcher import Dispatcher
from glimmer_ref.ops.cpu.runtime import compile_cache
import numpy as np

number = getattr(signal, os.environ["NUMBER"])
signal.signal(number, signal.default_int_handler)
compile_, seen = Dispatcher.compile, []

def interrupted(self, types):
    os.kill(os.getpid(), number)
    seen.append("compiled on")
    return compile_(self, types)

Dispatcher.compile = interrupted

@compile_cache.Kernel
def double(x):
    for i in range(len(x)):
        x[i] *= 2

x = np.ones(3)
try:
    double(x)
except KeyboardInterrupt:
    seen.append("interrupted")
Dispatcher.compile = compile_
double(x)
assert seen == ["compiled on", "interrupted"] and set(x) == {2.0}, (seen, x)
assert signal.getsignal(number) is signal.default_int_handler
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no process sends itself Ctrl-C there")
@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=SLOW)])
def test_ctrl_c_waits_until_a_kernel_is_compiled_or_loaded(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert run(INTERRUPTED, tmp_path / "file", NUMBER=name) == []  # a file is no folder: nothing is kept
