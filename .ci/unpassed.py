"""A plugin of pytest that leaves out tests which passed in an earlier run, whose --junitxml file is $PASSED."""

from __future__ import annotations

import os
from xml.etree import ElementTree

import pytest


def name_of(item: pytest.Item) -> str:
    """The test's name in that file, with dots between folders, file, class and function."""
    path, bracket, parameters = item.nodeid.partition("[")
    file, *names = path.split("::")
    return ".".join([file.removesuffix(".py").replace("/", "."), *names]) + bracket + parameters


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    cases = ElementTree.parse(os.environ["PASSED"]).iter("testcase")
    whole = [case for case in cases if not {child.tag for child in case} & {"skipped", "failure", "error"}]
    passed = {f"{case.get('classname')}.{case.get('name')}" for case in whole}
    again = [item for item in items if name_of(item) in passed]
    config.hook.pytest_deselected(items=again)
    items[:] = [item for item in items if name_of(item) not in passed]
