"""One engine in a process of its own, which answers requests on stdin; `engines.py` starts it."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glimmer_ref.bench.process import serve

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("--size", required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    serve(lambda: import_module(f"peers.{args.peer}").open_(args.size, args.precision, args.folder, args.threads))
