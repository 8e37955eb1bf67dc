"""The numbers that define a model: T5's shapes, and where GLIMMER cuts its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any

from . import template
from .config_keys import published
from .errors import InputError, brief

FEED_FORWARDS = ("gated-gelu", "relu")
POOLS = ("first", "mean")
OWNERS = ("shared", "separate")
EVERY_SYSTEM = "all"  # trained to serve as each of the three systems
TRAINED_AS = ("glimmer", "lumen", "fid", EVERY_SYSTEM)
MAX_DISTANCE = 2**31 - 1
MAX_OFFSET = 65_536


def _positive(what: str, value: object, minimum: int = 1, maximum: int | None = None, why: str = "") -> None:
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or value < minimum
        or (maximum is not None and value > maximum)
    ):
        up_to = "" if maximum is None else f" and at most {maximum}"
        raise InputError(f"config: {what}", f"a whole number of at least {minimum}{up_to}", brief(value), why)


def _one_of(what: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"config: {what}", f"one of {', '.join(choices)}", brief(value))


def _flag(what: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"config: {what}", "true or false", brief(value))


@dataclass(frozen=True)
class T5Config:
    """Shapes of a T5 encoder-decoder, under the names of its published config.json.

    Args:
        feed_forward_proj: "gated-gelu" (T5.1.1; the tanh form, D15) or "relu" (T5 1.0).
        scale_decoder_outputs: multiply by d_model^-0.5 before the head; with None the weights
            decide: only a tied head is scaled (D18). For a published T5, params/head.py decides
            as transformers does.

    Raises:
        InputError: a size that is not a positive whole number, or an unknown activation.
    """

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    feed_forward_proj: str = "gated-gelu"
    scale_decoder_outputs: bool | None = None
    decoder_start_token_id: int = 0
    eos_token_id: int = 1

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "d_kv", "d_ff", "num_decoder_layers", "num_heads"):
            _positive(name, getattr(self, name))
        _positive("num_layers", self.num_layers, minimum=0)
        _positive("relative_attention_num_buckets", self.relative_attention_num_buckets, minimum=4)
        # Half of a direction's buckets are exact distances, the rest logarithmic up to the maximum:
        # a maximum inside the exact half would divide by log(1) or less.
        _positive(
            "relative_attention_max_distance",
            self.relative_attention_max_distance,
            minimum=self.relative_attention_num_buckets // 2 + 1,
            maximum=MAX_DISTANCE,
            why="positions are int32, so no two tokens are farther apart",
        )
        if self.relative_attention_num_buckets % 4:
            raise InputError(
                "config: relative_attention_num_buckets",
                "a multiple of 4 (two directions, exact and logarithmic halves)",
                str(self.relative_attention_num_buckets),
            )
        eps = self.layer_norm_epsilon
        if not isinstance(eps, int | float) or isinstance(eps, bool) or not 0 < eps < 1:
            raise InputError("config: layer_norm_epsilon", "a number between 0 and 1", brief(eps))
        _one_of("feed_forward_proj", self.feed_forward_proj, FEED_FORWARDS)
        if self.scale_decoder_outputs is not None:
            _flag("scale_decoder_outputs", self.scale_decoder_outputs)
        for name in ("decoder_start_token_id", "eos_token_id"):
            _positive(name, getattr(self, name), minimum=0)
            if getattr(self, name) >= self.vocab_size:
                raise InputError(f"config: {name}", f"below vocab_size={self.vocab_size}", str(getattr(self, name)))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> T5Config:
        """Read a published config.json of T5; keys that do not concern the forward pass are ignored.

        Raises:
            InputError: as `config_keys.published`, or a size that is missing.
        """
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in published(data).items() if key in known}
        missing = [f.name for f in fields(cls) if f.default is f.default_factory and f.name not in values]
        if missing:
            raise InputError("config.json", "all of T5's sizes", f"no {', '.join(missing)}", "perhaps it is no T5")
        return cls(**values)


@dataclass(frozen=True)
class GlimmerConfig:
    """T5's shapes, the three cuts of its encoder, and the decisions where the paper is silent.

    Args:
        num_memory_layers: layers run offline, (1 - alpha) L.
        num_live_layers: layers run per question, alpha L.
        num_rerank_layers: live layers before the score (live-A), beta alpha L.
        k, m: passages retrieved and selected, unless the caller gives other numbers.
        pool: "first" token or "mean" of a pair for its score (D5, Table 3).
        score_norm: an RMSNorm before the score's projection (D5).
        passage_offset: position of the first token of a passage in the pair; None puts it right
            after the last token of the question (D2).
        decoder_question: the decoder also reads MemEnc(Q) (D4).
        question_encoder, reranker: "shared" as in GLIMMER, or "separate" (Tables 1 and 3).
        question_eos, passage_eos: whether questions and passages end with the end-of-sequence token (D13).
        question_tokens, passage_tokens, answer_tokens: length limits.
        question_prefixes: a question that starts with none of these gets the first one.
        passage_format: how title and text become one string: it holds {text} and perhaps {title}.
        no_answer: the answer by which the model says that the passages have none; "": it has not learnt to say so.
        trained_as: the system as which the weights were trained, or "all"; None if it is not known. It changes no
            computation.

    Raises:
        InputError: layers that do not add up, m > k, or a value outside its choices.
    """

    t5: T5Config
    num_memory_layers: int
    num_live_layers: int
    num_rerank_layers: int
    k: int = 25
    m: int = 5
    pool: str = "first"
    score_norm: bool = False
    passage_offset: int | None = None
    decoder_question: bool = True
    question_encoder: str = "shared"
    reranker: str = "shared"
    question_eos: bool = True
    passage_eos: bool = True
    question_tokens: int = 48
    passage_tokens: int = 304
    answer_tokens: int = 64
    question_prefixes: tuple[str, ...] = ("question:",)
    passage_format: str = "title: {title} context: {text}"
    no_answer: str = ""
    trained_as: str | None = None

    def __post_init__(self) -> None:
        for name in ("num_memory_layers", "num_live_layers", "num_rerank_layers"):
            _positive(name, getattr(self, name), minimum=0)
        for name in ("k", "m", "question_tokens", "passage_tokens", "answer_tokens"):
            _positive(name, getattr(self, name))
        if self.num_memory_layers + self.num_live_layers != self.t5.num_layers:
            raise InputError(
                "config: layers",
                f"num_memory_layers + num_live_layers = num_layers = {self.t5.num_layers}",
                f"{self.num_memory_layers} + {self.num_live_layers}",
            )
        if self.num_rerank_layers > self.num_live_layers:
            raise InputError(
                "config: num_rerank_layers",
                f"at most num_live_layers = {self.num_live_layers}",
                str(self.num_rerank_layers),
            )
        if self.m > self.k:
            raise InputError("config: m", "a number of at most k", f"k={self.k}, m={self.m}")
        if self.passage_offset is not None:
            why = "the position bias has a row for every distance, up to the offset and back"
            _positive("passage_offset", self.passage_offset, self.question_tokens, MAX_OFFSET, why)
        _one_of("pool", self.pool, POOLS)
        _one_of("question_encoder", self.question_encoder, OWNERS)
        _one_of("reranker", self.reranker, OWNERS)
        for name in ("score_norm", "decoder_question", "question_eos", "passage_eos"):
            _flag(name, getattr(self, name))
        if self.trained_as is not None:
            _one_of("trained_as", self.trained_as, TRAINED_AS)
        self._check_texts()

    def _check_texts(self) -> None:
        prefixes, form = self.question_prefixes, self.passage_format
        if not isinstance(prefixes, tuple) or not all(isinstance(p, str) for p in prefixes):
            raise InputError("config: question_prefixes", "a list of strings", brief(prefixes))
        if (length := sum(map(len, prefixes))) > template.MAX_CHARACTERS or len(prefixes) > template.MAX_CHARACTERS:
            raise InputError(
                "config: question_prefixes", f"at most {template.MAX_CHARACTERS} characters together", f"{length:,}"
            )
        if not isinstance(form, str):
            raise InputError(
                "config: passage_format", "a string that contains {text} once and may contain {title}", brief(form)
            )
        template.parse(form)
        if not isinstance(self.no_answer, str) or len(self.no_answer) > template.MAX_CHARACTERS:
            expected = f"a string of at most {template.MAX_CHARACTERS} characters"
            raise InputError("config: no_answer", expected, brief(self.no_answer))

    @property
    def alpha(self) -> Fraction:
        """The live proportion: live layers over all encoder layers."""
        return Fraction(self.num_live_layers, max(self.t5.num_layers, 1))

    @property
    def beta(self) -> Fraction:
        """The rerank proportion: live-A's layers over live layers."""
        return Fraction(self.num_rerank_layers, max(self.num_live_layers, 1))

    @classmethod
    def from_proportions(cls, t5: T5Config, alpha: Fraction | str, beta: Fraction | str, **more: Any) -> GlimmerConfig:
        """Cut the encoder of T5 by alpha and beta, which must give whole layers (D12).

        Args:
            alpha: live proportion of the encoder, in [0, 1]: a Fraction, or text like "1/3".
            beta: live-A's proportion of the live layers, likewise.
            more: the other fields.

        Raises:
            InputError: not a proportion, or not a whole number of layers.
        """
        live = whole_layers("alpha", alpha, t5.num_layers)
        rerank = whole_layers("beta", beta, live)
        return cls(t5, t5.num_layers - live, live, rerank, **more)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GlimmerConfig:
        """Read our config.json: the keys of T5, and ours in a section "glimmer"."""
        section = data.get("glimmer") if isinstance(data, Mapping) else None
        if not isinstance(section, Mapping):
            raise InputError(
                "config.json",
                'a section "glimmer"',
                "none",
                "make one from a T5 folder with: glimmer-ref convert T5_DIR OUT --alpha 1/3 --beta 1/4",
            )
        values = dict(section)
        positions = values.pop("positions", "packed")
        if positions != "packed":
            values["passage_offset"] = positions
        if isinstance(values.get("question_prefixes"), list):
            values["question_prefixes"] = tuple(values["question_prefixes"])
        known = [f.name for f in fields(cls) if f.name != "t5"]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError('config.json, "glimmer"', f"only {', '.join(known)}", ", ".join(unknown))
        missing = [name for name in known[:3] if name not in values]
        if missing:
            raise InputError('config.json, "glimmer"', f"{', '.join(known[:3])}", f"no {', '.join(missing)}")
        return cls(T5Config.from_json(data), **values)

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`; other programs for T5 can read the file too."""
        section = asdict(self)
        t5 = section.pop("t5")
        offset = section.pop("passage_offset")
        section["positions"] = "packed" if offset is None else offset
        section["question_prefixes"] = list(section["question_prefixes"])
        for name in ("no_answer", "trained_as"):  # files of models without them stay the same to the byte
            if not section[name]:
                del section[name]
        return {"model_type": "t5", **t5, "glimmer": section}


def whole_layers(name: str, proportion: Fraction | str, layers: int) -> int:
    """The number of layers in a proportion of `layers`, which must be whole.

    Raises:
        InputError: not a number in [0, 1], or not a whole number of layers.
    """
    try:
        share = Fraction(proportion)
    except (ValueError, ZeroDivisionError, TypeError):
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise InputError(name, "a proportion between 0 and 1, like 1/3", brief(proportion))
    if (share * layers).denominator != 1:
        nearest = sorted({Fraction(round(share * layers) + step, layers) for step in (-1, 0, 1)})
        options = ", ".join(str(f) for f in nearest if 0 <= f <= 1)
        raise InputError(
            name,
            f"a share of {layers} layers that is a whole number of layers",
            f"{share} of {layers} = {float(share * layers):g}",
            f"the nearest shares are {options}",
        )
    return int(share * layers)


_V1_1_SIZES = {  # T5.1.1 as published: d_model, d_kv, d_ff, layers of encoder and of decoder, heads.
    "small": (512, 64, 1024, 8, 6),
    "base": (768, 64, 2048, 12, 12),
    "large": (1024, 64, 2816, 24, 16),
    "xl": (2048, 64, 5120, 24, 32),
    "xxl": (4096, 64, 10240, 24, 64),
}
SIZES = {
    name: T5Config(32128, d, c, f, layers, layers, heads) for name, (d, c, f, layers, heads) in _V1_1_SIZES.items()
}
