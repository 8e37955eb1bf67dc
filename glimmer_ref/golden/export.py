"""Copies the bundled cases into a folder for programs in other languages, with the order in which to do them."""

from __future__ import annotations

from pathlib import Path

from ..disk.read import reason_of
from ..disk.write import write_text, written
from ..errors import InputError
from . import check
from .cases import TABLE

PAGE = "README.md"
ORDER = [case.name for case in TABLE]  # from single operations over parts of the model to its variants and its training


def commands(case: str) -> tuple[str, str]:
    """The two commands for a case, in the folder with the cases: the user's own program, and the check."""
    return f"YOUR_PROGRAM {case} {case}.safetensors", f"python check.py {case} {case}.safetensors --brief"


def page() -> str:
    """The page beside the cases: the order, what each checks, and the commands."""
    rows = [
        f"| {i} | [`{case.name}`]({case.name}/case.json) | {case.kind} | {case.pins} |"
        for i, case in enumerate(TABLE, 1)
    ]
    run, checked = commands(ORDER[0])
    return f"""# Golden cases of GLIMMER

Each folder is a case: a tiny model, its input and all arrays that a correct implementation computes. Your program reads
`case.json`, `inputs.safetensors` and `weights.safetensors` of a case, and writes a safetensors file or an `.npz` with
any of the arrays that `expected.safetensors` names. `check.py` needs Python and NumPy, and names the first array that
differs:

    {run}
    {checked}

Do the cases in this order. Each adds something to those before it, so go on when a case is right.

| | case | kind | what it checks |
|---|---|---|---|
{chr(10).join(rows)}

`case.json` has the config, and the names and shapes of all arrays in forward order. The format is specified in
docs/golden-format.md of glimmer_ref. `glimmer-ref golden starter --lang js` (`rust`, `cpp`, `python`, `torch`, `jax`)
writes a program that reads a case and writes its outputs, with the equation of each stage that is left to fill in.
"""


def export(folder: str | Path) -> list[Path]:
    """Writes a folder for each bundled case, check.py and a page with their order; no file is overwritten.

    Returns:
        The files, in the order in which to read them.

    Raises:
        InputError: a file exists already, or the folder cannot be written.
    """
    target = Path(folder)
    texts = {PAGE: page(), "check.py": Path(check.__file__).read_text(encoding="utf-8")}
    files = {f"{name}/{path.name}": path for name in ORDER for path in sorted((check.CASES / name).iterdir())}
    files["LICENSE"] = check.CASES / "LICENSE"
    for name in (*texts, *files):
        if (target / name).exists():
            raise InputError(f"{target / name}", "a new file", "one that is there already", "choose another folder")
    try:
        for name, text in texts.items():
            target.mkdir(parents=True, exist_ok=True)
            write_text(target / name, text)
        for name, path in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with written(target / name) as file:
                file.write(path.read_bytes())
    except OSError as error:
        raise InputError(f"{folder}", "a folder that can be written", reason_of(error)) from None
    return [target / name for name in (*texts, *files)]
