"""A second GLIMMER, put together from transformers' blocks, against the golden cases as an outside user would do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glimmer_ref.golden import check
from glimmer_ref.golden.adapters import check_callable

torch = pytest.importorskip("torch", reason="needs the witness extra; .ci/run installs it")
transformers = pytest.importorskip("transformers", reason="needs the witness extra; .ci/run installs it")

CASES = [name for name in check.bundled() if check.open_case(name).about["kind"] == "model"]
Arrays = dict[str, Any]


def exact_norm(self: Any, x: Any) -> Any:
    """transformers' RMSNorm makes its mean in float32 whatever the model's dtype; here it keeps it."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    monkeypatch.setattr(T5LayerNorm, "forward", exact_norm)


class Glimmer:
    """Stages in torch, padded nowhere: sequences pass one by one, batch of one.

    Args:
        mistake: one of the planted mistakes, or "".
    """

    def __init__(self, config: Arrays, weights: Arrays, mistake: str = "") -> None:
        self.c, self.g, self.mistake = config, config["glimmer"], mistake
        self.w = {n: torch.tensor(np.asarray(x), dtype=torch.float64) for n, x in weights.items()}
        self.eps = config["layer_norm_epsilon"]

    def settings(self, layers: int, decoder: bool = False) -> Any:
        names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_heads", "feed_forward_proj", "layer_norm_epsilon")
        names += ("relative_attention_num_buckets", "relative_attention_max_distance")
        c = transformers.T5Config(**{n: self.c[n] for n in names}, num_layers=layers, dropout_rate=0.0, use_cache=False)
        c.is_decoder, c.is_encoder_decoder, c._attn_implementation = decoder, False, "eager"
        return c

    def norm(self, x: Any, name: str) -> Any:
        return self.w[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    def stack(self, at: str, first: int, last: int, decoder: bool = False) -> Any:
        """transformers' T5Stack with layers first .. last-1 of one of our stacks, its final norm taken out."""
        from transformers.models.t5.modeling_t5 import T5Stack

        stack = T5Stack(self.settings(max(last - first, 1), decoder)).double().eval()
        stack.final_layer_norm = torch.nn.Identity()
        stack.block = stack.block[: last - first]
        for i, block in enumerate(stack.block):
            parts = ["self_attention", "cross_attention"] if decoder else ["attention"]
            for part, layer in zip([*parts, "feed_forward"], block.layer, strict=True):
                self.fill(f"{at}.layer_{first + i}.{part}", layer)
        if last > first:
            table = stack.block[0].layer[0].SelfAttention.relative_attention_bias
            tie(table, self.w[f"{at}.relative_attention_bias"])
        return stack

    def fill(self, at: str, layer: Any) -> None:
        """One sub-layer's weights, ours being [in out] and theirs [out in]."""
        tie(layer.layer_norm, self.w[f"{at}.norm"])
        inner = next(
            m for n, m in layer.named_children() if n in ("SelfAttention", "EncDecAttention", "DenseReluDense")
        )
        for name, linear in inner.named_children():
            if isinstance(linear, torch.nn.Linear):
                tie(linear, self.w[f"{at}.{'wi_0' if name == 'wi' else name}"].T)
        if self.mistake == "divided" and hasattr(inner, "scaling"):
            inner.scaling = self.c["d_kv"] ** -0.5

    def encode(self, at: str, xs: list[Any], first: int, last: int, question: int | None = None) -> list[Any]:
        """Layers over each sequence; with an offset the passage's slots begin there, the gap masked."""
        if last == first:
            return xs
        stack, result, offset = self.stack(at, first, last), [], self.g["positions"]
        for x in xs:
            if offset == "packed" or question is None:
                result.append(stack(inputs_embeds=x[None]).last_hidden_state[0])
                continue
            wide = torch.zeros(offset + len(x) - question, x.shape[1], dtype=x.dtype)
            real = torch.tensor([*range(question), *range(offset, len(wide))])
            wide[real] = x
            mask = torch.zeros(1, len(wide))
            mask[0, real] = 1
            result.append(stack(inputs_embeds=wide[None], attention_mask=mask).last_hidden_state[0][real])
        return result

    def score(self, pairs: list[Any]) -> Any:
        pooled = torch.stack([x[0] if self.g["pool"] == "first" else x.mean(0) for x in pairs])
        if self.mistake == "score_of_detached_states":
            pooled = pooled.detach()
        if self.g["score_norm"]:
            pooled = self.norm(pooled, "score.norm")
        return (pooled * self.w["score.weight"][:, 0]).sum(-1)

    def read(self, system: str, q: Any, passages: list[Any], out: Arrays) -> Any:
        """What the decoder attends to; every stage's result into `out`."""
        g, n = self.g, len(q)
        memory_layers, live, rerank = g["num_memory_layers"], g["num_live_layers"], g["num_rerank_layers"]
        if system == "fid":
            pairs = self.encode("memory", [torch.cat([q, p]) for p in passages], 0, memory_layers, n)
            pairs = [self.norm(x, "final_norm") for x in self.encode("live", pairs, 0, live, n)]
            ragged(out, "encoder.out", pairs)
            return torch.cat(pairs)
        passages = self.encode("memory", passages, 0, memory_layers)
        question = self.encode("memory" if g["question_encoder"] == "shared" else "question", [q], 0, memory_layers)[0]
        ragged(out, "memory.out", passages)
        ragged(out, "question.out", [question])
        pairs = [torch.cat([question, p]) for p in passages]
        ragged(out, "pairs", pairs)
        name = "live"
        if system == "glimmer":
            shared = g["reranker"] == "shared"
            ranked = self.encode("live" if shared else "reranker", pairs, 0, rerank, n)
            name = "live_b" if shared else "live"
            ragged(out, "live_a.out", ranked)
            scores = self.score(ranked)
            chosen = torch.sort(scores, descending=self.mistake != "ascending", stable=True).indices[: g["m"]]
            out |= {"scores": scores, "selected": chosen}
            pairs = [(ranked if shared else pairs)[i] for i in chosen]
        pairs = self.encode("live", pairs, rerank if name == "live_b" else 0, live, n)
        if self.mistake != "no final norm":
            pairs = [self.norm(x, "final_norm") for x in pairs]
        ragged(out, f"{name}.out", pairs)
        return torch.cat([*([self.norm(question, "final_norm")] if g["decoder_question"] else []), *pairs])

    def logits(self, ids: list[int], memory: Any) -> Any:
        stack = self.stack("decoder", 0, self.c["num_decoder_layers"], decoder=True)
        x = self.w["embedding"][torch.tensor(ids)][None]
        x = stack(inputs_embeds=x, encoder_hidden_states=memory[None], use_cache=False).last_hidden_state[0]
        x = self.norm(x, "decoder.final_norm")
        if self.c["scale_decoder_outputs"]:
            x = x * self.c["d_model"] ** -0.5
        return x @ self.w.get("decoder.lm_head", self.w["embedding"]).T

    def answer(self, memory: Any) -> list[int]:
        ids = [self.c["decoder_start_token_id"]]
        for _ in range(self.g["answer_tokens"]):
            ids.append(int(self.logits(ids, memory)[-1].argmax()))
            if ids[-1] == self.c["eos_token_id"]:
                return ids[1:-1]
        return ids[1:]

    def decode(self, memories: list[Any], targets: list[Any], out: Arrays) -> None:
        ragged(out, "decoder.memory", memories)
        start = self.c["decoder_start_token_id"]
        logits = [self.logits([start, *t[:-1]], m) for t, m in zip(targets, memories, strict=True)]
        ragged(out, "decoder.logits", logits)
        chosen = [torch.log_softmax(x, -1)[range(len(t)), t].sum() for x, t in zip(logits, targets, strict=True)]
        out["decoder.log_likelihood"] = torch.stack(chosen)
        ragged(out, "decoder.ids", [torch.tensor(self.answer(m)) for m in memories])


def tie(module: Any, weight: Any) -> None:
    """A tensor in place of a parameter, so that gradients flow on to where it came from."""
    del module.weight
    module.weight = weight


def ragged(out: Arrays, name: str, parts: list[Any]) -> None:
    out[name] = torch.cat(parts)
    out[f"{name}.lengths"] = np.array([len(p) for p in parts])


def split(inputs: Arrays, name: str) -> list[Any]:
    return np.split(inputs[name], np.cumsum(inputs[f"{name}.lengths"])[:-1].astype(int))


def second(name: str, mistake: str = "") -> Any:
    """The second implementation as a function of a case's config, weights and inputs."""
    about = check.open_case(name).about

    @torch.no_grad()
    def run(config: Arrays, weights: Arrays, inputs: Arrays) -> Arrays:
        model, out = Glimmer(config, weights, mistake), {}
        targets = [[int(i) for i in t] for t in split(inputs, "target")] if "target" in inputs else []
        if about["system"] == "decoder":
            memories = [torch.tensor(m, dtype=torch.float64) for m in split(inputs, "memory")]
        else:
            embedded = [model.w["embedding"][torch.tensor(p.astype(np.int64))] for p in split(inputs, "passages")]
            if about["system"] == "encoder":
                layers = config["glimmer"]["num_memory_layers"]
                found = model.encode("memory", embedded, 0, layers)
                ragged(out, "memory.out", found)
                ragged(out, "encoder.out", [model.norm(x, "final_norm") for x in found])
                memories = []
            else:
                q = model.w["embedding"][torch.tensor(inputs["question"].astype(np.int64))]
                memories = [model.read(about["system"], q, embedded, out)]
        if memories:
            model.decode(memories, targets, out)
        names = {t["name"] for t in about["tensors"]}
        held = {n: x for n, x in out.items() if n.removesuffix(".lengths") in names}
        return {n: x.numpy() if hasattr(x, "numpy") else x for n, x in held.items()}

    return run


@pytest.mark.parametrize("name", CASES)
def test_an_independent_implementation_passes(name: str) -> None:
    report = check_callable(name, second(name), "float64")
    assert report.code == 0, "\n".join(report.lines())
    stages = [v for v in report.tensors if "layer_" not in v.name and "step_" not in v.name]
    assert stages and all(v.status == "ok" for v in stages), "\n".join(report.lines())


def gradients(mistake: str = "") -> check.Report:
    """The report on torch's autograd through the second implementation: every weight of the training loss."""
    case = check.open_case("gradients")
    config, inputs, out = case.about["config"], case.read("inputs"), {}
    model = Glimmer(config, case.read("weights"), mistake)
    alone = Glimmer(config | {"glimmer": config["glimmer"] | {"m": 1}}, {})
    alone.w = model.w
    for weight in model.w.values():
        weight.requires_grad_()
    embedded = [model.w["embedding"][torch.tensor(p.astype(np.int64))] for p in split(inputs, "passages")]
    question = model.w["embedding"][torch.tensor(inputs["question"].astype(np.int64))]
    (target,) = [[int(i) for i in t] for t in split(inputs, "target")]

    def log_p(memory: Any) -> Any:
        logits = model.logits([config["decoder_start_token_id"], *target[:-1]], memory)
        return torch.log_softmax(logits, -1)[range(len(target)), target].sum()

    lm = -log_p(model.read("glimmer", question, embedded, out)) / len(target)
    with torch.no_grad():
        out["log_p_lm"] = torch.stack([log_p(alone.read("glimmer", question, [p], {})) for p in embedded])
    rank = torch.log_softmax(out["scores"].detach() if mistake == "scores_detached" else out["scores"], 0)
    pdist = (rank.exp() * (rank - torch.log_softmax(out["log_p_lm"], 0))).sum()
    (lm + pdist).backward()
    out |= {"loss.lm": lm, "loss.pdist": pdist} | {f"gradient.{name}": gradient_of(x) for name, x in model.w.items()}
    held = {t["name"] for t in case.about["tensors"]}
    return check.check(case, {name: x.detach().numpy() for name, x in out.items() if name in held}, "float64")


def gradient_of(weight: Any) -> Any:
    """The gradient of a weight; zeros if nothing flows into it."""
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


def test_its_gradients_pass() -> None:
    report = gradients()
    assert report.code == 0, "\n".join(report.lines())
    assert all(v.status == "ok" for v in report.tensors)


@pytest.mark.parametrize("mistake", ["scores_detached", "score_of_detached_states"])
def test_a_gradient_that_ends_too_early_is_named(mistake: str) -> None:
    report = gradients(mistake)
    assert report.first is not None and report.first.name == "gradient.embedding"
    assert [cause["name"] for cause in report.causes] == [mistake]


@pytest.mark.parametrize(
    ("mistake", "first"),
    [("divided", "question.out"), ("ascending", "selected"), ("no final norm", "live_b.out")],
)
def test_a_planted_mistake_is_reported_at_its_stage(mistake: str, first: str) -> None:
    report = check_callable("glimmer", second("glimmer", mistake))
    assert report.code == 1
    assert report.first is not None and report.first.name == first
