"""GLIMMER, stage by stage: fill in a stage, run this file on a case, and see whether the stage is right.

    python implementation.py CASE_DIR OUT.safetensors
    python check.py CASE_DIR OUT.safetensors

A stage returns {name: array}, or None as long as it is not written. `before` holds the results of earlier stages. The
expected arrays replace the results of stages that are not written, so you can begin with any stage. Sequences are end
to end, [N d], with their lengths in "<name>.lengths". If yours are padded, [b n d], also give the mask [b n], as
"<name>.mask".

Sizes: b sequences, N rows of all of them, n_q of the question, k passages, m selected, t target tokens, d = d_model,
hc = num_heads * d_kv, f = d_ff, v = vocab_size.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from glimmer_ref.golden.check import Case, open_case

Arrays = dict[str, Any]


def to_device(x: np.ndarray) -> Any:
    """An array of the case in the form that the stages use."""
    return x


def to_host(x: Any) -> np.ndarray:
    """An array of a stage as a NumPy array."""
    return np.asarray(x)


def layer(config: Any, weights: Arrays, at: str, x: Any, positions: Any) -> Arrays | None:
    """One encoder layer over one sequence, for use in several stages; `at` is a name like "live.layer_0".

    norm(x) = x / sqrt(mean(x^2) + layer_norm_epsilon) * gain: no mean is subtracted, and no bias is added.
    attention: n = norm(x); q, k, v = n times weights [d hc]; mixed = softmax(q k^T + bias) v in each of num_heads
        heads of d_kv columns, q k^T not divided by sqrt(d_kv); out = x + mixed o.
    bias: relative_attention_bias[bucket(key position - query position)], a column a head, one table for all layers.
        Of B = relative_attention_num_buckets, an encoder takes the upper half for keys ahead and the lower half for
        the others; a decoder, which sees no keys ahead, takes all B for those behind. Of such a range of R buckets
        the first E = R/2 are the distances 0 .. E-1, and a larger distance D falls into
        min(E + floor(log(D/E) / log(relative_attention_max_distance/E) * (R - E)), R - 1).
    feed_forward: n = norm(x); hidden = gelu(n wi_0) * (n wi_1) with gelu(a) = a/2 (1 + tanh(sqrt(2/pi)
        (a + 0.044715 a^3))), or hidden = relu(n wi_0) if feed_forward_proj is "relu"; out = x + hidden wo.

    In:  x [n d], positions [n]; weights <at>.attention.{norm q k v o}, <at>.feed_forward.{norm wi_0 wi_1 wo}, [in out].
    Out: attention.{q k v mixed} [n hc], attention.out [n d], feed_forward.hidden [n f], feed_forward.out [n d].
    """
    return None


def question(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """MemEnc(Q): the embedding, then num_memory_layers layers, and no final norm.

    In:  inputs["question"] [n_q]; weights embedding [v d], memory.* (question.* if question_encoder is "separate").
    Out: question.out [n_q d], and question.layer_<i>.* as of `layer`.
    """
    return None


def memory(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """MemEnc(Passage_i): the same for each passage alone, with positions from 0.

    In:  inputs["passages"] [N], inputs["passages.lengths"] [k]; weights embedding, memory.*.
    Out: memory.out [N d], and memory.layer_<i>.*.
    """
    return None


def pairs(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """H_i = [MemEnc(Q); MemEnc(Passage_i)] for every passage.

    From here on the passage's positions follow the question's last, or start at "positions" if that is a number.

    In:  before["question.out"] [n_q d], before["memory.out"] [N d], inputs["passages.lengths"].
    Out: pairs [N d], N now with the question once for every passage.
    """
    return None


def encoder(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """FiD's Enc(Q; Passage_i): all layers over the ids of both, end to end, then the final norm.

    A case of the encoder alone has passages and no question; there only the final norm remains to be computed.

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
    """Score(H'_i) = H'_i[first token] w, or the mean over its tokens if pool is "mean".

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
    """LiveEncB(R_j): the other live layers over the selected pairs, best first, then the final norm.

    In:  before["live_a.out"] [N d], before["selected"] [m]; weights live.*, final_norm [d].
    Out: live_b.out [N d], and live_b.layer_<i>.*, i counting on from num_rerank_layers.
    """
    return None


def live(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """LiveEnc: all live layers, then the final norm, for LUMEN and behind a separate reranker.

    In:  before["pairs"] [N d], of which the reranker leaves before["selected"]; weights live.*, final_norm.
    Out: live.out [N d], and live.layer_<i>.*.
    """
    return None


def decoder_memory(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """What the decoder attends to: [norm(MemEnc(Q)); R_1; .. R_m], with the encoder's final norm.

    Without the question if decoder_question is false; in FiD it is just the pairs.

    In:  before["question.out"], before["live_b.out"] (live.out, encoder.out); weights final_norm.
    Out: decoder.memory [N d].
    """
    return None


def cross(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """Keys and values of each decoder layer's cross-attention: the memory times weights, with no norm.

    In:  before["decoder.memory"] [N d] (inputs["memory"] in a case of the decoder alone);
         weights decoder.layer_<i>.cross_attention.{k v} [d hc].
    Out: cross.layer_<i>.{k v} [N hc].
    """
    return None


def decoder(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """The decoder, causal, over the target moved right by one behind decoder_start_token_id.

    Layer: self_attention with the decoder's buckets, cross_attention with no bias, feed_forward. Then logits =
    norm(x) lm_head^T; with no lm_head the embedding takes its place and norm(x) is first times d^-1/2
    (scale_decoder_outputs, if not null, decides about that factor).

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
    """The log-probability of the answer given each pair alone: all k pairs pass the rest of the live encoder.

    The decoder reads what it would read if the pair were the only one: [Q; pair], or the pair without the question.

    In:  what `live_b`, `decoder_memory` and `decoder` read, for every pair; inputs["target"].
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
    """The likeliest id at each step from decoder_start_token_id on, ties to the lower, up to eos_token_id.

    In:  what `decoder` reads except the target; at most answer_tokens steps.
    Out: decoder.step_<i>.logits [b v], decoder.ids without start and end.
    """
    return None


def operations(config: Any, weights: Arrays, inputs: Arrays, before: Arrays) -> Arrays | None:
    """A case of single operations: `glimmer-ref golden show` prints what each reads and computes.

    In:  inputs.
    Out: <operation>.out, and so on.
    """
    return None


# Each stage, and how the names of its results begin. A stage whose names the case does not have is skipped.
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
