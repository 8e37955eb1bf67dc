"""The API reference made from the docstrings: what stands in it, and how."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from paths import ROOT

import glimmer_ref

sys.path.insert(0, str(ROOT / "notebooks"))

import reference

SOURCE = '''
"""A module.

Longer.
"""

LIMIT: int = 3  # at most
_HIDDEN = 1


class Pair(NamedTuple):
    """Two of [b] things, x_1 * x_2 < 3; see `Pair.swap` and `left`.

    Args:
        left, right: what they are,
            on two lines.

    Raises:
        ValueError: never.
    """

    left: Ints
    right: Ints = 0

    @property
    def swap(self) -> Pair:
        """The other order."""

    def _own(self): ...


def long(first_argument_of_many: int, second_argument_of_many: str = "a", /, *rest: Pair, last=1, **more: object):
    """Words.

    Returns:
        One thing.
    """


def _private() -> None: ...
'''
PAGE = """# package

**Names**: [`below.Pair`](api.package.html#package.below.Pair)

- [`below`](#package.below) A module.

<h2 id="package.below"><code>package.below</code></h2>

A module.

Longer.

```python
LIMIT: int = 3  # at most
```

<h3 id="package.below.Pair"><code>Pair</code></h3>

```python
class Pair(NamedTuple):
    left: Ints
    right: Ints = 0
```

Two of \\[b\\] things, x\\_1 \\* x\\_2 \\< 3; see [`Pair.swap`](api.package.html#package.below.Pair.swap) and `left`.

**Args**

- `left, right`: what they are, on two lines.

**Raises**

- `ValueError`: never.

<h4 id="package.below.Pair.swap"><code>Pair.swap</code></h4>

```python
@property
def swap(self) -> Pair
```

The other order.

<h3 id="package.below.long"><code>long</code></h3>

```python
def long(
    first_argument_of_many: int,
    second_argument_of_many: str = 'a',
    /,
    *rest: Pair,
    last=1,
    **more: object,
)
```

Words.

**Returns**

One thing."""


def test_a_page_shows_what_is_public(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .below import Pair")
    (package / "below.py").write_text(SOURCE)
    (package / "_hidden.py").write_text("def f(): ...")
    assert reference.pages(package) == {"package": PAGE}


def test_every_public_name_of_the_package_is_told() -> None:
    """With its arguments and its docstring, where it is defined; and linked from the package's own page."""
    texts = reference.pages(ROOT / "glimmer_ref")
    for name in glimmer_ref.__all__:
        home = getattr(glimmer_ref, name).__module__
        text = next(text for text in texts.values() if f'id="{home}.{name}"' in text)
        assert re.search(rf"^(def|class) {name}\b", text, re.MULTILINE)
        assert f"#{home}.{name})" in texts["glimmer_ref"]


@pytest.mark.parametrize("part", ["*", "_", "$x$", "<b>", "# a", "a | b", "~~", "^2", "&amp;"])
def test_text_stays_what_it_is(part: str) -> None:
    """Through pandoc, nothing of a docstring's words is taken for a mark."""
    pypandoc = pytest.importorskip("pypandoc", reason="needs the notebooks extra")
    made = pypandoc.convert_text(reference.plain(f"x {part} y {part} z"), "plain", format="gfm+tex_math_dollars")
    assert made.split() == f"x {part} y {part} z".split()
