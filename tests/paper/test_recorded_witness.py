"""The reference against recorded tensors of transformers' T5 (tests/fixtures/record_witness.py), torch not needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paths import FIXTURES
from safetensors import safe_open

from glimmer_ref.inference.tracing import trace_ids
from glimmer_ref.ops import bind
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import prepare_params
from glimmer_ref.params.safetensors_io import map_tensors, write_tensors

RECORDED = FIXTURES / "witness.safetensors"


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_recorded_run(tmp_path: Path, backend: str) -> None:
    with safe_open(RECORDED, framework="numpy") as file:
        about = file.metadata()
    assert about["transformers"] and about["torch"]
    stored = {name: x.raw for name, x in map_tensors(RECORDED).items()}
    weights = {name.removeprefix("weights."): x for name, x in stored.items() if name.startswith("weights.")}
    write_tensors(tmp_path / "model.safetensors", weights)
    (tmp_path / "config.json").write_text(json.dumps(json.loads(about["config"])), "utf-8")
    ops = bind(backend)
    model = prepare_params(ops, checkpoint.from_t5(tmp_path, "1/2", "1/2", seed=0, dtype="float64"))
    source, target = [int(i) for i in stored["source"]], [int(i) for i in stored["target"]]
    got = trace_ids(ops, model, source[:9], [source[9:]], target, system="fid")
    names = {"encoder": "decoder.memory", "logits": "decoder.logits", "encoder.layer_0": "encoder.memory.layer_0"}
    names |= {"encoder.layer_1": "encoder.memory.layer_1", "encoder.layer_2": "encoder.live.layer_0"}
    names |= {"decoder.layer_0": "decoder.layer_0"}
    runs = {name for name in stored if not name.startswith("weights.")} - {"source", "target"}
    assert runs == set(names)
    for theirs, ours in names.items():
        found = got[f"{ours}.feed_forward.out" if "layer" in ours else ours]
        expected = stored[theirs]
        assert np.abs(found - expected).max() <= 1e-13 * np.abs(expected).max(), theirs
