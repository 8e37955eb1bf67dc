"""What holds for all tests."""

from typing import Any

import pytest
from hypothesis import settings

from glimmer_ref.cli import main

settings.register_profile("here", deadline=None)  # a busy machine is no failure
settings.load_profile("here")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """`glimmer-ref WORDS`: its code, and what it printed on stdout and on stderr."""

    def call(*words: Any) -> tuple[int, str, str]:
        code = main([str(w) for w in words])
        return code, *capsys.readouterr()

    return call
