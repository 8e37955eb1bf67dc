"""Writes a folder for a new implementation in another language or framework: a template and the checker."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path

from ..disk.read import reason_of
from ..disk.write import write_text
from ..errors import InputError
from . import check, template

# The template of a Python framework is template.py itself. Each framework replaces some of its lines: imports,
# to_device and to_host.
FRAMEWORKS: dict[str, dict[str, str]] = {
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
# Files in starters/<language>/. The stages of template.py replace the lines //{about}, //{stages} and //{table} in the
# first of them: each stage as a comment and a function that is not written, in this form, and a row of the table.
FILES = {
    "js": ("implementation.mjs", "safetensors.mjs"),
    "rust": ("src/main.rs", "src/json.rs", "src/safetensors.rs", "Cargo.toml"),
    "cpp": ("implementation.cpp", "json.hpp", "safetensors.hpp"),
}
COMMENTS = {"js": "// ", "rust": "/// ", "cpp": "// "}
FUNCTIONS = {
    "js": "function {name}(config, weights, inputs, before) {{\n  return null;\n}}",
    "rust": "fn {name}(_config: &Json, _weights: &Tensors, _inputs: &Tensors, _before: &Tensors) -> Option<Tensors> "
    "{{\n    None\n}}",
    "cpp": "Result {name}(const Json& config, const Tensors& weights, const Tensors& inputs, const Tensors& before) "
    "{{\n  return std::nullopt;\n}}",
}
LAYERS = {
    "js": "function layer(config, weights, at, x, positions) {\n  return null;\n}",
    "rust": "fn layer(_config: &Json, _weights: &Tensors, _at: &str, _x: &Tensor, _positions: &[i64]) "
    "-> Option<Tensors> {\n    None\n}",
    "cpp": "Result layer(const Json& config, const Tensors& weights, const std::string& at, const Tensor& x,\n"
    "             const std::vector<std::int64_t>& positions) {\n  return std::nullopt;\n}",
}
ROWS = {
    "js": "  [{name}, [{begins}]],",
    "rust": '    ("{name}", {name}, &[{begins}]),',
    "cpp": '    {{"{name}", {name}, {{{begins}}}}},',
}
LANGUAGES = (*FRAMEWORKS, *FILES)
NEXT = {
    "js": "node implementation.mjs",
    "rust": "cargo run -q --release --",
    "cpp": "g++ -std=c++17 -O2 -o implementation implementation.cpp && ./implementation",
}


def framework(name: str) -> str:
    """The source of the template for a Python framework, which imports the checker beside it."""
    source = inspect.getsource(template)
    for old, new in ({"from glimmer_ref.golden.check import": "from check import"} | FRAMEWORKS[name]).items():
        assert source.count(old) == 1
        source = source.replace(old, new)
    return source


def comment(text: str, begin: str) -> str:
    """A docstring as lines of a comment."""
    return "\n".join(f"{begin}{line}".rstrip() for line in inspect.cleandoc(text).split("\n"))


def stages(language: str) -> tuple[str, str]:
    """The functions of all stages in a language, none of them written, and the rows of the table of stages."""

    def written(stage: Callable[..., object], body: str) -> str:
        return f"{comment(stage.__doc__ or '', COMMENTS[language])}\n{body}"

    functions, rows = [written(template.layer, LAYERS[language])], []
    for stage in (*template.STAGES, template.operations):
        functions.append(written(stage, FUNCTIONS[language].format(name=stage.__name__)))
    for stage, begins in template.STAGES.items():
        quoted = ", ".join(f'"{begin}"' for begin in ([begins] if isinstance(begins, str) else begins))
        rows.append(ROWS[language].format(name=stage.__name__, begins=quoted))
    return "\n\n".join(functions), "\n".join(rows)


def about() -> str:
    """What template.py says about stages in any language: all of its docstring after the commands."""
    text = ast.get_docstring(ast.parse(inspect.getsource(template))) or ""
    return text[text.index("`before` holds") :]


def sources(language: str) -> dict[str, str]:
    """The files of a language's starter by name, without the checker.

    Raises:
        InputError: there is no starter for the language.
    """
    if language in FRAMEWORKS:
        return {"implementation.py": framework(language)}
    if language not in FILES:
        raise InputError("--lang", f"one of {', '.join(LANGUAGES)}", repr(language))
    folder = Path(__file__).with_name("starters") / language
    result = {name: (folder / name).read_text(encoding="utf-8") for name in FILES[language]}
    functions, table = stages(language)
    first = FILES[language][0]
    begin = "//! " if language == "rust" else "// "
    for mark, text in (("about", comment(about(), begin)), ("stages", functions), ("table", table)):
        line = f"//{{{mark}}}"
        assert result[first].count(line) == 1
        result[first] = result[first].replace(line, text)
    return result


def command(language: str) -> str:
    """What runs the starter in its folder; a case's folder and the file to write follow."""
    return NEXT.get(language, "python implementation.py")


def write(language: str, folder: str | Path) -> list[Path]:
    """Writes the starter and check.py into a folder; no file is overwritten.

    Raises:
        InputError: there is no starter for the language, a file exists already, or the folder cannot be written.
    """
    texts = sources(language) | {"check.py": Path(check.__file__).read_text(encoding="utf-8")}
    paths = [Path(folder) / name for name in texts]
    for path in paths:
        if path.exists():
            raise InputError(f"{path}", "a new file", "one that is there already", "choose another folder")
    try:
        for path, text in zip(paths, texts.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
    except OSError as error:
        raise InputError(f"{folder}", "a folder that can be written", reason_of(error)) from None
    return paths
