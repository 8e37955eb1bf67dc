"""The reference backend and its twins against an independent implementation: transformers' T5 on random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import hugging_face

from glimmer_ref.inference.reader import trace_ids
from glimmer_ref.instruments import Tape
from glimmer_ref.ops import bind
from glimmer_ref.paper.systems import loss
from glimmer_ref.params import checkpoint
from glimmer_ref.params.model import Model, from_arrays, leaves, map_named, prepare_params
from glimmer_ref.ragged import Tokens

torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")

# Odd head count, heads * d_kv != d_model, unequal depths; 170 tokens reach past the last exact bucket and past 128.
SHAPE = {
    "vocab_size": 97,
    "d_model": 40,
    "d_kv": 12,
    "d_ff": 56,
    "num_layers": 4,
    "num_decoder_layers": 3,
    "num_heads": 5,
}
VERSIONS = {
    "v1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "scale_decoder_outputs": False},
    "v1.0": {"feed_forward_proj": "relu", "tie_word_embeddings": True, "scale_decoder_outputs": True},
}
QUESTION, PASSAGE, TARGET = 21, 150, 30


def exact_norm(self: Any, x: Any) -> Any:
    """transformers' RMSNorm makes its mean in float32 whatever the model's dtype; here it keeps it."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


@pytest.fixture(scope="module", params=sorted(VERSIONS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = transformers.T5Config(**SHAPE, **VERSIONS[request.param], dropout_rate=0.0, decoder_start_token_id=0)
    witness = transformers.T5ForConditionalGeneration(settings)
    with torch.no_grad():
        for name, weight in witness.named_parameters():
            if name.endswith("layer_norm.weight"):
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif "relative_attention_bias" in name:
                weight.copy_(torch.randn_like(weight))
            elif name.startswith("decoder") and name.endswith((".o.weight", ".wo.weight")):
                weight.mul_(20)  # else the last token's embedding outshouts the layers, and answers repeat it
        if not settings.tie_word_embeddings:
            witness.lm_head.weight = torch.nn.Parameter(torch.randn_like(witness.lm_head.weight) * 0.2)
    path = tmp_path_factory.mktemp(request.param)
    witness.save_pretrained(path)
    return path


@pytest.fixture(
    params=[("numpy", "float64"), ("numpy", "float32"), ("numba", "float64"), ("numba", "float32")], ids=str
)
def ours(request: pytest.FixtureRequest, folder: Path) -> tuple[Any, Model, float]:
    """Operations, weights, and how far from the witness they may be, relative to a tensor's largest value."""
    name, dtype = request.param
    ops, loaded = bind(name), checkpoint.from_t5(folder, "1/2", "1/2", seed=0)
    model = prepare_params(ops, map_named(lambda _, x: x.astype(dtype), loaded))
    return ops, model, {"float64": 1e-12, "float32": 1e-5}[dtype]


@pytest.fixture
def witness(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    monkeypatch.setattr(T5LayerNorm, "forward", exact_norm)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder, attn_implementation="eager")
    return model.double().eval()


def ids(n: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(2, SHAPE["vocab_size"], n)]


def close(x: np.ndarray, y: Any, tolerance: float) -> None:
    y = np.asarray(y.detach().numpy() if hasattr(y, "detach") else y)
    assert x.shape == y.shape
    assert np.abs(x - y).max() <= tolerance * np.abs(y).max(), f"off by {np.abs(x - y).max() / np.abs(y).max():.2e}"


def test_every_encoder_layer_and_the_logits(ours: tuple[Any, Model, float], witness: Any) -> None:
    ops, model, tolerance = ours
    question, passage, target = ids(QUESTION, 1), ids(PASSAGE, 2), ids(TARGET, 3)
    got = trace_ids(ops, model, question, [passage], target, system="fid")
    with torch.no_grad():
        out = witness(
            input_ids=torch.tensor([question + passage]),
            decoder_input_ids=torch.tensor([[0, *target[:-1]]]),
            output_hidden_states=True,
        )
    places = [("memory", 0), ("memory", 1), ("live", 0), ("live", 1)]
    for (stack, i), expected in zip(places[:-1], out.encoder_hidden_states[1:], strict=False):
        close(got[f"encoder.{stack}.layer_{i}.feed_forward.out"], expected[0], tolerance)
    close(got["decoder.memory"], out.encoder_last_hidden_state[0], tolerance)
    for i, expected in enumerate(out.decoder_hidden_states[1:-1]):
        close(got[f"decoder.layer_{i}.feed_forward.out"], expected[0], tolerance)
    close(got["decoder.logits"], out.logits[0], tolerance)
    log_p = torch.log_softmax(out.logits[0], -1)[torch.arange(TARGET), torch.tensor(target)].sum()
    close(got["decoder.log_likelihood"], log_p[None], tolerance)


def test_greedy_ids(ours: tuple[Any, Model, float], witness: Any) -> None:
    ops, model, _ = ours
    question, passage = ids(QUESTION, 4), ids(PASSAGE, 5)
    got = trace_ids(ops, model, question, [passage], system="fid", only="decoder.ids")
    with torch.no_grad():
        out = witness.generate(
            torch.tensor([question + passage]), do_sample=False, num_beams=1, max_new_tokens=model.config.answer_tokens
        )
    expected = [int(i) for i in out[0][1:]]
    if expected[-1] == model.config.t5.eos_token_id:
        expected = expected[:-1]
    assert list(got["decoder.ids"]) == expected
    assert len(set(expected)) > 2, "a result that repeats one token proves little"


def test_gradients(folder: Path, witness: Any) -> None:
    """The loss of one pair and its gradients against torch's autograd; T5 has one table for both encoders."""
    model = checkpoint.from_t5(folder, "1/2", "1/2", seed=0, dtype="float64")
    question, passage, target = ids(QUESTION, 6), ids(PASSAGE, 7), ids(TARGET, 8)
    tape, one = Tape(bind("numpy")), np.array([1])
    got = loss(tape, model, "fid", Tokens.of([question]), Tokens.of([passage]), one, Tokens.of([target]), 1)
    of = tape.gradients(got.output_grads, leaves(model))
    of["memory.relative_attention_bias"] += of["live.relative_attention_bias"]
    expected = witness(input_ids=torch.tensor([question + passage]), labels=torch.tensor([target])).loss
    expected.backward()
    assert got.value == pytest.approx(float(expected.detach()), rel=1e-12)
    theirs = dict(witness.named_parameters())
    ours = hugging_face(from_arrays(model.config, of))
    assert set(theirs) == set(ours)
    for name, x in ours.items():
        close(x, theirs[name].grad, 1e-11)
