"""Start-up: what must not be imported, not be compiled, and not be said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def python(script: str, tmp_path: Path) -> None:
    env = {"GLIMMER_REF_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    got = subprocess.run([sys.executable, "-c", script], env=env, timeout=60, capture_output=True, text=True)
    assert (got.returncode, got.stderr) == (0, ""), got.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is compiled, so nothing is kept"


NONE = "import sys; assert not {m.split('.')[0] for m in sys.modules} & {%s}\n"


def test_importing_brings_nothing_along(tmp_path: Path) -> None:
    python("import glimmer_ref\n" + NONE % "'numba', 'llvmlite', 'numpy', 'tokenizers'", tmp_path)


@pytest.mark.parametrize(
    "script",
    [
        "import glimmer_ref; r = glimmer_ref.load(ops='numpy')\n"
        "assert r.ask(QUESTION, ['The Crooked Sailor was written by Jorian Nettleworth .']).text\n"
        "assert len(r.memorize(['The Crooked Ladder is set in Ashford .'])) == 1\n",
        "from glimmer_ref.cli import main\nassert main(['ask', QUESTION, '--ops', 'numpy', '--json']) == 0\n",
        "from glimmer_ref.cli import main\nassert main(['flops', '--size', 'base']) == 0\n",
    ],
    ids=["python", "ask", "flops"],
)
def test_the_oracle_needs_no_compiler(script: str, tmp_path: Path) -> None:
    python(
        "QUESTION = 'Who wrote The Crooked Sailor?'\n" + script + NONE % "'numba', 'llvmlite', 'matplotlib'", tmp_path
    )


WARM = """
import gc, glimmer_ref
from glimmer_ref.ops import bind
from glimmer_ref.ops.cpu.runtime import compile_cache
bind("numba")
kernels = [x for x in gc.get_objects() if type(x) is compile_cache.Kernel]
known = {k.loop.__name__: len(k.run.signatures) for k in kernels}
assert len(known) > 8
facts = ["The Crooked Sailor was written by Jorian Nettleworth .", "The Crooked Ladder is set in Ashford ."]
for precision in ("float32", "bfloat16", "int8"):
    reader = glimmer_ref.load(precision=precision)
    for system in ("glimmer", "lumen", "fid"):
        reader.ask("Who wrote The Crooked Sailor?", facts, system)
    reader.ask("Who wrote The Crooked Sailor?", reader.memorize(facts), attention=True)
more = [k.loop.__name__ for k in kernels if len(k.run.signatures) > known[k.loop.__name__]]
observed = {"attend_past_kernel", "absorbed_kernel", "probs_kernel"}  # only who listens asks for those
assert not set(more) - observed, more
"""


def test_no_kernel_is_compiled_in_the_middle_of_an_answer() -> None:
    got = subprocess.run([sys.executable, "-c", WARM], timeout=120, capture_output=True, text=True)
    assert got.returncode == 0, got.stderr
