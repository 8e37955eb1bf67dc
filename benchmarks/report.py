"""Result files into Markdown and pictures: python benchmarks/report.py FILE.. [--into benchmarks/README.md]

Beside each FILE.json: FILE.md and FILE-*.png. With --into, the text between the two lines
<!-- benchmarks --> and <!-- /benchmarks --> of that file becomes what was printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import dense
import judged
import pictures
import savings
import scale
import start
import training
import trends
from figures import Figures

from glimmer_ref.errors import InputError

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
GIGA = 1e9
KINDS: dict[str, Any] = {
    "dense": dense, "savings": savings, "scale": scale, "start": start, "training": training, "trends": trends,
}  # fmt: skip


def heading(document: dict[str, Any]) -> list[str]:
    """Which machine, versions, commit."""
    here = document["machine"]
    memory = f"{here['memory_bytes'] / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items() if name != "glimmer_ref")
    return [
        f"{here['cpu']}, {here['cores']} cores, {memory}, {here['system']}, Python {here['python']}; "
        f"{versions}; {document['date'][:10]}, commit {document['commit']}.",
        "",
    ]


def ceilings(f: Figures) -> list[str]:
    """What the machine could do, by the rounds' own measurement."""
    lines = ["| ceilings | float32 GFLOP/s | bfloat16 | int8 GOP/s | memory GB/s |", "|---|---|---|---|---|"]
    for n in f.groups:
        cells = [f.ceiling(n, n, name) for name in ("float32", "bfloat16", "int8", "reads")]
        told = " | ".join(f"{s.median / GIGA:.1f} ({s.least / GIGA:.1f} to {s.most / GIGA:.1f})" for s in cells if s)
        lines.append(f"| {n} thread{'s' * (n > 1)} | {told} |")
    return [*lines, ""]


def _cells(f: Figures, group: int, work: str, who: str) -> str:
    wall, cpu, peak = (f.spread(group, work, who, field) for field in ("wall", "cpu", "peak"))
    assert wall is not None and cpu is not None and peak is not None
    ratio, part = f.ratio(group, (work, who), (work, f"ours:float32@{group}")), f.share(group, work, who)
    error = f.document["contestants"][who].get("error")
    return (
        f"| {work} | {who} | {wall.median:.4f} ({wall.least:.4f} to {wall.most:.4f}) | {cpu.median:.4f} | "
        f"{f'{ratio.median:.2f}' if ratio else ''} | {f'{part.median:.3f}' if part else ''} | "
        f"{peak.most / 2**20:.0f} | {'' if error is None else f'{error:.0e}'} |"
    )


def everything(f: Figures) -> list[str]:
    """Every contestant at every work."""
    head = "| work | contestant@threads | seconds (min-max) | CPU s | times ours | share | MiB | error |"
    lines = [head, "|" + "---|" * 8]
    for group in f.groups:
        lines += [_cells(f, group, work, who) for work in f.works for who in f.contestants(group, work)]
    left_out = {who: about["left_out"] for who, about in f.document["contestants"].items() if "left_out" in about}
    notes = [f"- left out: {who}: {why}" for who, why in left_out.items()]
    return [*lines, "", *notes]


def run(document: dict[str, Any], path: Path) -> list[str]:
    """The table of targets and the ceilings; the whole goes into the file beside."""
    f = Figures(document)
    short = ["", *ceilings(f)]
    if document["size"] == "base":
        short = [*judged.table(judged.judged(f)), *short]
    for group in f.groups:
        picture = path.with_name(f"{path.stem}-{group}-threads.png")
        pictures.times(f, group, picture)
        short.append(f"![runtime by system]({picture.name})")
    path.with_suffix(".md").write_text("\n".join([*heading(document), *short, "", *everything(f)]) + "\n")
    return [*heading(document), *short]


def told(path: Path) -> list[str]:
    """One file's Markdown, its pictures written.

    Raises:
        InputError: no result of ours.
    """
    try:
        document = json.loads(path.read_text())
        kind = document["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(str(path), "a result of benchmarks/", f"{error}") from None
    if kind == "run":
        return run(document, path)
    lines = KINDS[kind].report(document, path)
    path.with_suffix(".md").write_text("\n".join([*heading(document), *lines]) + "\n")
    return list(lines)


def put_into(target: Path, lines: list[str], sources: list[Path]) -> None:
    """Replace what stands between the two marks; pictures by their way from the target."""
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
    lines = [line for path in args.files for line in [*told(path), ""]]
    print("\n".join(lines))
    if args.into:
        put_into(args.into, lines, args.files)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(f"benchmarks/report.py: error: {error}")
