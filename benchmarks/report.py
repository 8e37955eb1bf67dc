"""Result files as Markdown and plots: python benchmarks/report.py FILE.. [--into benchmarks/README.md]

Beside each FILE.json it writes FILE.md and FILE-*.png. With --into, it also puts the printed text between the two lines
<!-- benchmarks --> and <!-- /benchmarks --> of that file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import results
from comparison import summary
from suites import commands, corpus, dense_search, precisions, roofline, savings, scale, startup, training

from glimmer_ref.errors import InputError

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
KINDS: dict[str, Any] = {  # a document's kind -> the module whose `report` writes its page
    "run": summary,
    "commands": commands,
    "corpus": corpus,
    "dense": dense_search,
    "precisions": precisions,
    "roofline": roofline,
    "savings": savings,
    "scale": scale,
    "start": startup,
    "training": training,
}


def report(path: Path) -> list[str]:
    """Write one file's page and plots; the lines to print are returned.

    Raises:
        InputError: the file is no result of these benchmarks.
    """
    try:
        document = json.loads(path.read_text())
        module = KINDS[document["kind"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), "a result of benchmarks/", f"{error}") from None
    lines: list[str] = module.report(document, path)
    return lines


def put_into(target: Path, lines: list[str], sources: list[Path]) -> None:
    """Replace the text between the two marks; links to plots become relative to the target."""
    text = target.read_text()
    if BEGIN not in text or END not in text:
        raise InputError(str(target), f"a line {BEGIN} and a line {END}", "none")
    folder = sources[0].resolve().parent.relative_to(target.resolve().parent)
    body = "\n".join(lines).replace("](", f"]({folder}/")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    target.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")


def main() -> int:
    """Print, write, and put into a file if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, metavar="FILE.md")
    args = parser.parse_args()
    lines = [line for path in args.files for line in [*report(path), ""]]
    print("\n".join(lines))
    if args.into:
        put_into(args.into, lines, args.files)
    return 0


if __name__ == "__main__":
    results.run(main, __file__)
