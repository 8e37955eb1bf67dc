"""Records what every CUDA kernel takes of an SM: python tests/data/record_cuda.py > tests/data/cuda_kernels.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from cubins import compiled, versions


def main() -> None:
    """One line a kernel and architecture."""
    rows = [
        {key: value for key, value in kernel._asdict().items() if key not in ("ptx", "stack", "spilled")}
        for kernel in compiled()
    ]
    lines = ",\n".join(json.dumps(row) for row in rows)
    print(f'{{"versions": {json.dumps(versions())},\n"kernels": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
