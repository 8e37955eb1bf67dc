"""Writes a folder for a new implementation in another framework: a template and the checker."""

from __future__ import annotations

from pathlib import Path

from ..disk.read import reason_of
from ..disk.write import write_text
from ..errors import InputError
from . import check

# The template is template.py itself. Each language replaces some of its lines: imports, to_device and to_host.
LANGUAGES: dict[str, dict[str, str]] = {
    "python": {},
    "jax": {
        "import numpy as np\n": "import jax\nimport jax.numpy as jnp\nimport numpy as np\n",
        "Arrays = dict": 'jax.config.update("jax_default_matmul_precision", "highest")  # not tf32, not bfloat16\n\n'
        "Arrays = dict",
        "    return x\n": "    return jnp.asarray(x)\n",
        "    return np.asarray(x)\n": "    x = jnp.asarray(x)\n"
        "    return np.asarray(x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x)\n",
    },
    "torch": {
        "import numpy as np\n": "import numpy as np\nimport torch\n",
        "    return x\n": "    return torch.from_numpy(x.copy())\n",
        "    return np.asarray(x)\n": "    x = x.detach().cpu()\n"
        "    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()\n",
    },
}


def template(language: str) -> str:
    """The source of one language's template, which imports the checker beside it.

    Raises:
        InputError: there is no template for the language.
    """
    if language not in LANGUAGES:
        raise InputError("--lang", f"one of {', '.join(LANGUAGES)}", repr(language))
    source = Path(__file__).with_name("template.py").read_text(encoding="utf-8")
    for old, new in ({"from glimmer_ref.golden.check import": "from check import"} | LANGUAGES[language]).items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    return source


def write(language: str, folder: str | Path) -> list[Path]:
    """Writes implementation.py and check.py into a folder; no file is overwritten.

    Raises:
        InputError: there is no template for the language, a file exists already, or the folder cannot be written.
    """
    source, paths = template(language), [Path(folder) / name for name in ("implementation.py", "check.py")]
    for path in paths:
        if path.exists():
            raise InputError(f"{path}", "a new file", "one that is there already", "choose another folder")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, (source, Path(check.__file__).read_text(encoding="utf-8")), strict=True):
            write_text(path, text)
    except OSError as error:
        raise InputError(f"{folder}", "a folder that can be written", reason_of(error)) from None
    return paths
