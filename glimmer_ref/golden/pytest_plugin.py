"""A pytest plugin: --glimmer-outputs DIR checks files <case>.safetensors or .npz, one test per tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options. Without the first one the plugin does nothing and imports nothing."""
    group = parser.getgroup("glimmer_ref")
    group.addoption("--glimmer-outputs", metavar="DIR", help="folder of <case>.safetensors to check, a test per tensor")
    group.addoption(
        "--glimmer-precision",
        default="float32",
        help="precision of the outputs (default float32)",
    )


class GoldenItem(pytest.Item):
    """A test of one tensor of one case, or an error about what could not be checked.

    Args:
        problem: the reason why the test fails; "" if the tensor is right.
        absent: whether the tensor was not given, which is not a failure.
    """

    def __init__(self, *, problem: str = "", absent: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.problem, self.absent = problem, absent

    def runtest(self) -> None:
        if self.absent:
            pytest.skip(self.problem)
        if self.problem:
            raise AssertionError(self.problem)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        return self.problem

    def reportinfo(self) -> tuple[Path, None, str]:
        return Path(self.config.getoption("--glimmer-outputs")), None, self.name


def _findings(folder: Path, precision: str) -> Iterator[tuple[str, str, bool]]:
    """The name, problem and absence of every tensor of every case that has outputs in a folder."""
    from . import check

    found = [*folder.glob("*.npz"), *folder.glob("*.safetensors")]
    files = {path.stem: path for path in sorted(found, key=lambda path: (path.suffix, path))}
    given = 0
    for name in sorted(files.keys() - set(check.bundled())):
        yield name, f"{files[name]} is named like no case; the cases are {', '.join(check.bundled())}", False
    for case in check.bundled():
        if case not in files:
            yield case, f"not given: no {folder / case}.safetensors", True
            continue
        try:
            report = check.check(case, files[case], precision)
        except check.Unusable as error:
            yield case, str(error), False
            continue
        for v in report.tensors:
            given += v.status != "not given"
            yield f"{case}::{v.name}", "" if v.status == "ok" else str(v), v.status == "not given"
        for name in report.unknown:
            yield f"{case}::{check.plain(name)}", report.unknown_line(name), False
    if not given:
        yield "anything", f"nothing given: {folder} has no tensor of any case", False


@pytest.hookimpl(tryfirst=True)  # before -k and -m select tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds the golden tests after those that were collected."""
    folder = config.getoption("--glimmer-outputs")
    if folder is not None:
        from . import check

        for name, problem, absent in _findings(Path(folder), config.getoption("--glimmer-precision")):
            name, problem = check.shown(name), check.shown(problem)  # they contain names from untrusted files
            where = f"golden::{name}"
            item = GoldenItem.from_parent(session, name=name, nodeid=where, problem=problem, absent=absent)
            items.append(item)
