"""GLIMMER, stage by stage: fill in a stage, run this file on a case, and see whether the stage is right.

    python implementation.py CASE_DIR OUT.safetensors
    python check.py CASE_DIR OUT.safetensors

A stage returns {name: array}, or None as long as it is not implemented. `before` holds the results of earlier stages.
The expected arrays replace the results of stages that are not implemented, so you can begin with any stage. Sequences
are concatenated without padding, [N d], with their lengths in "<name>.lengths". If your sequences are padded, [b n d],
also return the mask [b n], as "<name>.mask".

Sizes: b sequences with N rows in total, n_q tokens of the question, k passages, m selected passages, t target tokens,
d = d_model, hc = num_heads * d_kv, f = d_ff, v = vocab_size.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from glimmer_ref.golden.check import Case, open_case

Arrays = dict[str, Any]


def to_device(x: np.ndarray) -> Any:
    """Converts an array of the case into the form that the stages use."""
    return x


def to_host(x: Any) -> np.ndarray:
    """Converts an array of a stage into a NumPy array."""
    return np.asarray(x)


def layer(config: Any, weights: Arrays, at: str, x: Any, positions: Any) -> Arrays | None:
    """One encoder layer on one sequence, for use in several stages; `at` is a name like "live.layer_0".

    norm(x) = x / sqrt(mean(x^2) + layer_norm_epsilon) * gain: no mean is subtracted, and no bias is added.
    attention: n = norm(x); q, k, v = n times weights [d hc]; mixed = softmax(q k^T + bias) v in each of num_heads
        heads of d_kv columns, where q k^T is not divided by sqrt(d_kv); out = x + mixed o.
    bias: relative_attention_bias[bucket(key position - query position)], one column per head, one table for all layers.
        There are B = relative_attention_num_buckets buckets. An encoder uses the upper half for keys ahead of the query
        and the lower half for the other keys. A decoder, which sees no keys ahead, uses all B for the keys behind. In
        such a range of R buckets, the first E = R/2 are for the distances 0 .. E-1. A larger distance D has the bucket
        min(E + floor(log(D/E) / log(relative_attention_max_distance/E) * (R - E)), R - 1).
    feed_forward: n = norm(x); hidden = gelu(n wi_0) * (n wi_1) with gelu(a) = a/2 (1 + tanh(sqrt(2/pi)
        (a + 0.044715 a^3))), or hidden = relu(n wi_0) if feed_forward_proj is "relu"; out = x + hidden wo.

    In:  x [n d], positions [n]; weights <at>.attention.{norm q k v o}, <at>.feed_forward.{norm wi_0 wi_1 wo}, [in out].
    Out: attention.{q k v mixed} [n hc], attention.out [n d], feed_forward.hidden [n f], feed_forward.out [n d].
    """
    return None


def question(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """MemEnc(Q): the embedding, then num_memory_layers layers, without the final norm.

    In:  inputs["question"] [n_q]; weights embedding [v d], memory.* (question.* if question_encoder is "separate").
    Out: question.out [n_q d], and question.layer_<i>.* with the names of `layer`.
    """
    return None


def memory(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """MemEnc(Passage_i): the same for each passage alone, with positions that start at 0.

    In:  inputs["passages"] [N], inputs["passages.lengths"] [k]; weights embedding, memory.*.
    Out: memory.out [N d], and memory.layer_<i>.*.
    """
    return None


def pairs(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """H_i = [MemEnc(Q); MemEnc(Passage_i)] for every passage.

    From here on, the passage's positions follow the question's last one, or start at "positions" if it is a number.

    In:  before["question.out"] [n_q d], before["memory.out"] [N d], inputs["passages.lengths"].
    Out: pairs [N d], where N counts the question once for every passage.
    """
    return None


def encoder(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """FiD's Enc(Q; Passage_i): all layers on the concatenated ids of both, then the final norm.

    A case with system "encoder" has passages but no question. There the stage `memory` runs all layers, and only the
    final norm is left.

    In:  inputs["question"], inputs["passages"]; weights embedding, memory.*, live.*, final_norm.
    Out: encoder.out [N d], and encoder.memory.layer_<i>.*, encoder.live.layer_<i>.*.
    """
    return None


def live_a(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """H'_i = LiveEncA(H_i): the first num_rerank_layers of the live layers.

    In:  before["pairs"] [N d]; weights live.relative_attention_bias, live.layer_<i>.*.
    Out: live_a.out [N d], and live_a.layer_<i>.*.
    """
    return None


def reranker(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """A separate reranker instead of live-A: its own layers, used only for the scores.

    In:  before["pairs"] [N d]; weights reranker.*.
    Out: reranker.layer_<i>.*.
    """
    return None


def score(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """Score(H'_i) = H'_i[first token] w; if pool is "mean", the mean over its tokens times w.

    In:  before["live_a.out"] [N d] (a separate reranker's last layer); weights score.weight [d 1], and
         score.norm [d] if score_norm is true: an RMS norm before it.
    Out: scores [k].
    """
    return None


def top_m(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """R_1 .. R_m: the passages with the m highest scores, best first, ties to the lower index.

    In:  before["scores"] [k], config["glimmer"]["m"].
    Out: selected [m], whole numbers from 0.
    """
    return None


def live_b(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """LiveEncB(R_j): the other live layers on the selected pairs, best first, then the final norm.

    In:  before["live_a.out"] [N d], before["selected"] [m]; weights live.*, final_norm [d].
    Out: live_b.out [N d], and live_b.layer_<i>.*, where i starts at num_rerank_layers.
    """
    return None


def live(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """LiveEnc: all live layers, then the final norm, for LUMEN and for GLIMMER with a separate reranker.

    In:  before["pairs"] [N d], with a reranker only those in before["selected"]; weights live.*, final_norm.
    Out: live.out [N d], and live.layer_<i>.*.
    """
    return None


def decoder_memory(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """The memory of the decoder: [norm(MemEnc(Q)); R_1; .. R_m], where norm is the encoder's final norm.

    If decoder_question is false, the question is left out. In FiD the memory consists of the pairs only.

    In:  before["question.out"], before["live_b.out"] (live.out, encoder.out); weights final_norm.
    Out: decoder.memory [N d].
    """
    return None


def cross(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """Keys and values of each decoder layer's cross-attention: the memory times weights, without a norm.

    In:  before["decoder.memory"] [N d] (inputs["memory"] in a case with system "decoder");
         weights decoder.layer_<i>.cross_attention.{k v} [d hc].
    Out: cross.layer_<i>.{k v} [N hc].
    """
    return None


def decoder(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """The causal decoder. Its input is the target, shifted right by one behind decoder_start_token_id.

    Layer: self_attention with the decoder's buckets, cross_attention without bias, feed_forward. Then logits =
    norm(x) lm_head^T. Without lm_head, the embedding takes its place, and norm(x) is multiplied by d^-1/2 first. If
    scale_decoder_outputs is not null, it decides whether norm(x) is multiplied.

    In:  inputs["target"] [t], before["cross.layer_<i>.k"] and v; weights embedding, decoder.*.
    Out: decoder.logits [t v], and decoder.layer_<i>.self_attention.{q k v mixed out},
         decoder.layer_<i>.cross_attention.{q mixed out}, decoder.layer_<i>.feed_forward.{hidden out}.
    """
    return None


def log_likelihood(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """sum_t log softmax(logits_t)[target_t].

    In:  before["decoder.logits"] [N v], inputs["target"] [N], inputs["target.lengths"] [b].
    Out: decoder.log_likelihood [b].
    """
    return None


def distillation(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """The log-probability of the answer given each pair alone: all k pairs go through the rest of the live encoder.

    The decoder reads each pair as if it were the only one: [Q; pair], or the pair without the question.

    In:  the inputs of `live_b`, `decoder_memory` and `decoder`, for every pair; inputs["target"].
    Out: log_p_lm [k], each the sum of the target's log-probabilities.
    """
    return None


def training(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """The training loss without dropout, and its gradient.

    loss.lm = -(sum of the target's log-probabilities given the selected pairs) / its tokens.
    loss.pdist = sum_i p_i (log p_i - log r_i) with p = softmax(scores), r = softmax(log_p_lm).
    The gradient is that of loss.lm + loss.pdist, with log_p_lm and `selected` as constants.

    In:  all weights and inputs.
    Out: loss.lm [1], loss.pdist [1], gradient.<weight> for every weight.
    """
    return None


def greedy(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """Greedy decoding from decoder_start_token_id to eos_token_id: the likeliest id at each step, ties to the lower.

    In:  the inputs of `decoder` except the target; there are at most answer_tokens steps.
    Out: decoder.step_<i>.logits [b v], decoder.ids without start and end.
    """
    return None


def operations(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """A case for single operations: `glimmer-ref golden show` prints the inputs and the equation of each.

    In:  inputs.
    Out: <operation>.out, and so on.
    """
    return None


# Each stage, and the beginnings of the names of its results. A stage is skipped if the case has no such names.
STAGES = {
    question: "question.",
    memory: "memory.",
    pairs: "pairs",
    encoder: "encoder.",
    live_a: "live_a.",
    reranker: "reranker.",
    score: "scores",
    top_m: "selected",
    live_b: "live_b.",
    live: "live.",
    decoder_memory: "decoder.memory",
    cross: "cross.",
    decoder: ("decoder.layer_", "decoder.logits"),
    log_likelihood: "decoder.log_likelihood",
    distillation: "log_p_lm",
    training: ("loss.", "gradient."),
    greedy: ("decoder.step_", "decoder.ids"),
}


def run(case: Case) -> dict[str, np.ndarray]:
    """Runs every stage in order, and returns the results with names of the case."""
    names = [entry["name"] for entry in case.about["tensors"]]
    weights, inputs = ({name: to_device(x) for name, x in case.read(part).items()} for part in ("weights", "inputs"))
    before = {}
    for name, x in case.expected.items():
        before[name] = to_device(x.astype("float32") if x.dtype.kind == "f" else x)
    outputs = {}
    for stage, begins in STAGES.items() if case.about["kind"] != "ops" else [(operations, "")]:
        if any(name.startswith(begins) for name in names):
            result = stage(case.about["config"], weights, inputs, before)
            print(f"{stage.__name__:16}{'not written' if result is None else 'run'}")
            before.update(result or {})
            for name, x in (result or {}).items():
                if name.removesuffix(".mask").removesuffix(".lengths") in names:
                    outputs[name] = np.array(to_host(x), order="C")
    return outputs


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: python {sys.argv[0]} CASE_DIR OUT.safetensors")
    save_file(run(open_case(sys.argv[1])), sys.argv[2])
