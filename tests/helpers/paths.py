"""Paths of the folders of a checkout."""

from pathlib import Path

HELPERS = Path(__file__).resolve().parent
TESTS = HELPERS.parent
FIXTURES = TESTS / "fixtures"
ROOT = TESTS.parent
