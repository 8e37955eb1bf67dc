"""Runs JavaScript of the package in node."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

LIVE = Path(str(files("glimmer_ref") / "live"))
NODE = shutil.which("node") or shutil.which("nodejs")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node, to run JavaScript")


def run_js(imports: str, expression: str, **data: Any) -> Any:
    """The value of an expression, which may use some imported names and the names in `data`.

    Args:
        imports: such as "encode from t5.js; bind from operations.js".
    """
    lines = []
    for line in filter(None, imports.split("; ")):
        names, file = line.split(" from ")
        lines.append(f"import {{{names}}} from {json.dumps((LIVE / file).as_uri())};")
    lines.append("import {readFileSync} from 'node:fs';")
    lines.append(f"const {{{', '.join(data)}}} = JSON.parse(readFileSync(0, 'utf8'));")
    lines.append(f"process.stdout.write(JSON.stringify({expression}));")
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", "\n".join(lines)],
        input=json.dumps(data).encode(),
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout)
