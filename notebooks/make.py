"""Makes executed notebooks from their .py: python notebooks/make.py [NAMES] writes NAME.ipynb beside each NAME.py."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SECONDS = 600  # the time limit of a cell
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources(words: Sequence[str] = ()) -> list[Path]:
    """The .py files of the named notebooks; of all if none are named. 02_t5_layer, 02_t5_layer.py and 02 are the same.

    Raises:
        SystemExit: a name that does not fit exactly one notebook.
    """
    known = sorted(HERE.glob("[0-9][0-9]_*.py"))
    chosen = []
    for word in words:
        found = [path for path in known if path.stem.startswith(Path(word).stem)]
        if len(found) != 1:
            raise SystemExit(f"notebooks: {word}: one of {', '.join(path.stem for path in known)}")
        chosen += found
    return chosen or known


def executed(source: Path, folder: Path) -> Any:
    """The notebook of one .py, executed in a new kernel in `folder`, without content that would differ in every run.

    Raises:
        RuntimeError: a cell that raises or takes too long, a kernel that dies.
        SystemExit: the notebooks extra is missing.
    """
    try:
        import jupytext
        from nbclient import NotebookClient
        from nbclient.exceptions import CellControlSignal
    except ImportError as error:
        raise SystemExit(f"notebooks: {error.name} is missing; pip install '.[notebooks]'") from None
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata = {"jupytext": {"formats": "ipynb,py:percent"}, "kernelspec": KERNEL}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    where = {"metadata": {"path": str(folder)}}
    try:
        NotebookClient(notebook, timeout=SECONDS, resources=where, record_timing=False).execute()
    except CellControlSignal as error:
        raise RuntimeError(str(error).strip()) from None
    for machines in ("language_info", "widgets"):
        notebook.metadata.pop(machines, None)
    for i, cell in enumerate(notebook.cells):
        cell.id = f"cell-{i}"
        _arrange(cell)
    return notebook


def _arrange(cell: Any) -> None:
    """Fold solutions, drop progress bars and outputs of live widgets, and join output that was printed in pieces."""
    tags = cell.metadata.get("tags", [])
    if "solution" in tags:
        cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    if cell.cell_type != "code":
        return
    joined: list[Any] = []
    for output in [] if "widget" in tags else cell.outputs:
        last = joined[-1] if joined else None
        if output.get("name") == "stderr" and output.text.startswith("glimmer_ref: compiling"):
            continue
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    cell.outputs = joined


def main(words: Sequence[str]) -> int:
    import nbformat

    for source in sources(words):
        started = time.perf_counter()
        try:
            notebook = executed(source, HERE)
        except RuntimeError as error:
            raise SystemExit(f"notebooks: {source.name}: {error}") from None
        nbformat.write(notebook, source.with_suffix(".ipynb"))
        print(f"{source.stem}.ipynb  {time.perf_counter() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
