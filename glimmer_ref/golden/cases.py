"""The table of the golden cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..config import GlimmerConfig, T5Config
from .case import Case

# heads * d_kv differs from d_model, the number of heads is odd, and the decoder has fewer layers than the encoder.
T5 = T5Config(vocab_size=41, d_model=16, d_kv=5, d_ff=20, num_layers=5, num_decoder_layers=2, num_heads=3)
QUESTION, PASSAGES, FEW = 5, (6, 11, 1, 4, 9, 3, 7), (6, 11, 1, 4)
TARGET = 24  # tokens of an answer: with fewer, the buckets of a decoder and an encoder would not differ

# The tensors of a case. For the question, which is short, it has all of them. For other stages, it has enough to
# distinguish mistakes in attention from those in the feed-forward, and the result, which equals the last layer's `out`.
QUESTIONS = r"question\.layer_0\..*", r"question\.layer_1\.(attention\..*|feed_forward\.hidden)"
LAYERS = (
    r"(memory|live_a|live_b|live|reranker|encoder\.memory)\.layer_0\.(attention\.mixed|feed_forward\.hidden)",
    r"(memory|live_b|live|encoder\.(memory|live))\.layer_1\.attention\.mixed",
)
DECODER = (
    r"cross\.layer_0\.(k|v)",
    r"decoder\.layer_0\.self_attention\.(k|v|q|mixed|out)",
    r"decoder\.layer_0\.(cross_attention\.(q|mixed|out)|feed_forward\.(hidden|out))",
    r"decoder\.layer_1\.(self_attention\.mixed|cross_attention\.mixed|feed_forward\.out)",
    r"decoder\.(logits|log_likelihood|ids|step_(0|1|12|23)\.logits)",
)
STAGES = (r"(question|memory|live_a|live_b|live|encoder)\.out|pairs|scores|selected|decoder\.memory",)
HOLDS = QUESTIONS + LAYERS + STAGES + DECODER


def small(t5: T5Config = T5, alpha: str = "3/5", beta: str = "1/3", **more: Any) -> GlimmerConfig:
    """The config of most cases: two memory layers, one layer of live-A, two of live-B."""
    return GlimmerConfig.from_proportions(t5, alpha, beta, **{"k": 7, "m": 3, "answer_tokens": TARGET, **more})


def case(name: str, pins: str, config: GlimmerConfig, seed: int, decisions: str, **more: Any) -> Case:
    """A case of the usual sizes, except for those in `more`. `decisions` is one text, "D1 D2 .."."""
    sizes = {"question": QUESTION, "passages": PASSAGES, "target": (TARGET,), "holds": HOLDS, **more}
    return Case(name, pins, config, seed, tuple(decisions.split()), **sizes)


def refusal(name: str, expected: str, **change: Any) -> dict[str, Any]:
    """A change to the refusals case, and the error that it must cause."""
    return {"name": name, "change": change, "expected": expected}


NO_PASSAGE_3 = {"passages.lengths": [*PASSAGES[:3], 0, *PASSAGES[4:]]}
REFUSALS = (
    refusal("m_above_k", "an error that says m must be at most k", m=len(PASSAGES) + 1),
    refusal("m_zero", "an error that says m must be at least 1", m=0),
    refusal("empty_question", "an error that names the question as empty", inputs={"question": []}),
    refusal("empty_passage", "an error that names passage 3 as empty", inputs=NO_PASSAGE_3),
    refusal("no_passages", "an error that says there are no passages", inputs={"passages": [], "passages.lengths": []}),
    refusal("id_past_vocabulary", "an error about an id of 41 where ids end at 40", inputs={"question": [3, 9, 41]}),
    refusal("negative_id", "an error about a negative id, not the embedding's last row", inputs={"question": [3, -1]}),
    refusal("score_nan", "an error about scores that are not finite", weights={"score.weight": "nan"}),
    refusal("score_infinite", "an error about scores that are not finite", weights={"score.weight": "inf"}),
    refusal("weight_missing", "an error that names final_norm as missing", weights={"final_norm": None}),
    refusal("layers_do_not_add_up", "an error: 2 memory and 3 live layers are not 6", config={"num_layers": 6}),
    refusal("m_above_k_in_config", "an error that says m must be at most k", config={"glimmer": {"k": 2}}),
)

SHAPES = "D1 D2 D3 D4 D14 D15 D18"
RANKS = "D1 D2 D3 D4 D5 D6 D14 D15 D18"
TABLE = (
    case(
        "ops",
        "Each operation by itself, where its wrong forms show: rows of tiny norm, GELU between 1 and 4, distances "
        "beyond 128, sequences of one token, exact ties.",
        small(),
        1,
        "D6 D14 D15",
        kind="ops",
        holds=(r"(?!.*probs).*",),
    ),
    case(
        "encoder_long",
        "T5's encoder alone: distances beyond 128 share a bucket, sequences of different length do not see each other, "
        "and a final norm comes once.",
        small(replace(T5, num_layers=3, num_decoder_layers=1), "0", "0"),
        1,
        "D15",
        system="encoder",
        passages=(17, 150, 1),
        holds=(
            r"memory\.layer_0\.(attention\.(k|mixed|out)|feed_forward\.(hidden|out))",
            r"memory\.layer_[12]\.attention\.mixed",
            *STAGES,
        ),
    ),
    case(
        "decoder_24",
        "T5's decoder alone on two memories of different length: causal, its own position buckets, none in "
        "cross-attention, answers of at least 24 tokens forced and greedy.",
        small(),
        15,
        "D14 D15 D18",
        system="decoder",
        passages=(19, 7),
        target=(24, 27),
        holds=DECODER,
    ),
    case(
        "fid",
        "FiD (section 2.1): the whole encoder over each pair [Q; Passage_i], all pairs as one sequence before the "
        "decoder.",
        small(),
        35,
        "D2 D14 D15 D18",
        system="fid",
        passages=FEW,
    ),
    case(
        "lumen",
        "LUMEN (section 2.2): memory encoder over question and passages alone, live encoder over the pairs; and greedy "
        "decoding that stops at the end of sequence, which is here an id met after 24 tokens.",
        small(replace(T5, eos_token_id=36), answer_tokens=32),
        11,
        SHAPES,
        system="lumen",
        passages=FEW,
    ),
    case(
        "glimmer", "GLIMMER (section 3.1): live-A ranks seven passages, live-B reads the best three.", small(), 1, RANKS
    ),
    case(
        "m_equals_k",
        "GLIMMER with m = k: nothing is left out, yet the decoder reads the pairs in the order of their scores.",
        small(k=4, m=4),
        122,
        RANKS,
        passages=FEW,
    ),
    case(
        "beta_0",
        "No layer of live-A: every score is that of the question's first token, all tie exactly, and the lower index "
        "wins.",
        small(beta="0"),
        115,
        RANKS,
    ),
    case(
        "mean_pool",
        "The score reads the mean of the pair's tokens, through an RMSNorm (pool, score_norm).",
        small(pool="mean", score_norm=True),
        108,
        RANKS,
    ),
    case(
        "separate_question_encoder",
        "Another encoder than the passages' reads the question (Table 3).",
        small(question_encoder="separate"),
        70,
        RANKS,
    ),
    case(
        "separate_reranker",
        "Layers of its own rank the passages; the whole live encoder then reads the best three pairs (Table 1).",
        small(reranker="separate"),
        73,
        RANKS,
    ),
    case(
        "padded_slots",
        "Passages begin at position 48 whatever the question's length (passage_offset), tokens still end to end.",
        small(passage_offset=48),
        112,
        RANKS,
    ),
    case(
        "no_decoder_question",
        "The decoder reads the pairs only, without MemEnc(Q) before them (decoder_question).",
        small(decoder_question=False),
        44,
        RANKS,
    ),
    case(
        "t5_1_0",
        "FiD on T5 1.0: relu without a gate, the head is the embedding, logits scaled by d_model^-1/2.",
        small(replace(T5, feed_forward_proj="relu", scale_decoder_outputs=True)),
        115,
        "D2 D14 D18",
        system="fid",
        passages=FEW,
        tied=True,
    ),
    case(
        "bfloat16_weights",
        "Weights kept as bfloat16 are widened, not computed with: GLIMMER in the precision of the run.",
        small(),
        101,
        RANKS,
        stored="BF16",
    ),
    case(
        "gradients",
        "Section 3.2: GLIMMER's training loss without dropout, language modeling from the best three passages plus "
        "perplexity distillation over all seven, and its gradient with respect to every weight.",
        small(replace(T5, num_layers=3, num_decoder_layers=1), "2/3", "1/2"),
        68,
        f"{RANKS} D7 D8 D9 D10 D11 D16",
        kind="gradients",
        target=(9,),
        holds=(r"scores|selected|log_p_lm|loss\..*|gradient\..*",),
    ),
    case(
        "refusals",
        "Inputs that must end in an error, each a change to a run that works; never in a wrong answer.",
        small(),
        1,
        "D6 D12 D17",
        kind="refuse",
        holds=("scores|selected",),
        refusals=REFUSALS,
    ),
)
CASES = {each.name: each for each in TABLE}
