"""Facts that identify a build, an index or an evaluation: their digest, and the first fact that differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of facts that JSON can hold; their order does not matter."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first fact that differs, as "name=ours" and "name=theirs"; None if all are equal."""
    for name in [*ours, *(n for n in theirs if n not in ours)]:
        mine, other = ours.get(name), theirs.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            inner = difference(mine, other)
            if inner:
                return inner
        elif mine != other:
            return f"{name}={str(mine)[:40]}", f"{name}={str(other)[:40]}"
    return None
