"""The workloads that are timed, on random weights of T5.1.1, and their costs as this package counts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ..config import SIZES, GlimmerConfig, T5Config
from ..errors import InputError
from ..instruments import MacCounter
from ..ops import Ops, SequenceLayout, shape_backend
from ..paper.decoding import greedy
from ..paper.fid import encode_pairs
from ..paper.lumen import encode_passages
from ..paper.systems import FROM_TEXT, SYSTEMS
from ..params.model import Model, Stack, build_model, random
from ..ragged import Array, States, Tokens, token_positions, zeros

TINY = T5Config(320, 64, 16, 96, 12, 2, 4)  # for tests of the benchmarks themselves
MINI = T5Config(2013, 96, 32, 192, 12, 2, 3)  # the shapes of the bundled model
SHAPES = {"tiny": TINY, "mini": MINI, **SIZES}
WIDTHS = {"float32": 4, "bfloat16": 2, "int8": 1}  # bytes of a weight


@dataclass(frozen=True)
class Workload:
    """One workload.

    Args:
        kind: a key of `KINDS`.
        k, m: passages retrieved, and selected by GLIMMER.
        n_q, n_p: tokens of the question and of each passage.
        steps: tokens that are decoded; none of them is the end of sequence.
        b: questions in a batch.
        alpha, beta: live proportion of the encoder, and live-A's of the live layers; the size's own if None.
    """

    kind: str
    k: int = 5
    m: int = 5
    n_q: int = 48
    n_p: int = 304
    steps: int = 32
    b: int = 1
    alpha: Fraction | None = None
    beta: Fraction | None = None

    @property
    def pairs(self) -> int:
        """Question-passage pairs in all."""
        return self.b * self.k

    @property
    def read(self) -> int:
        """Tokens that one question's decoder reads."""
        return self.k * (self.n_q + self.n_p)


class Runs(NamedTuple):
    """The function to run, which takes the operations; and the part of it whose multiply-adds do not count."""

    run: Callable[[Ops], Any]
    less: Callable[[Ops], Any] | None = None


class Kind(NamedTuple):
    """A kind of workload: its description, its units, how to prepare it, and the limit of its speed."""

    what: str
    unit: str
    units: Callable[[Workload], int]
    prepare: Callable[[Workload, Ops, Model], Runs]
    bound: str = "multiply-adds"


def shape(size: str) -> GlimmerConfig:
    """The published T5.1.1 of that size, with about a third of its encoder live and a quarter of that live-A.

    Its end of sequence is the last row of the vocabulary, which the random weights never choose.

    Raises:
        InputError: no such size.
    """
    if size not in SHAPES:
        raise InputError("size", f"one of {', '.join(SHAPES)}", repr(size))
    t5 = SHAPES[size]
    live = max(1, round(t5.num_layers / 3))
    never_ends = replace(t5, eos_token_id=t5.vocab_size - 1, scale_decoder_outputs=False)
    return GlimmerConfig(never_ends, t5.num_layers - live, live, max(1, round(live / 4)))


def weights(config: GlimmerConfig, seed: int = 0) -> Model:
    """Random weights that a plain T5 can have too: one position table for the encoder, and no end of sequence."""
    model = random(config, seed)
    head = model.decoder.lm_head
    assert head is not None
    head[config.t5.eos_token_id] = 0  # a logit of 0 is never the largest of thousands around it
    return replace(model, live=replace(model.live, relative_attention_bias=model.memory.relative_attention_bias))


def with_proportions(model: Model, workload: Workload) -> Model:
    """The same encoder cut at the workload's alpha and beta: no weight is copied.

    Raises:
        InputError: a proportion that gives no whole layers.
    """
    if workload.alpha is None and workload.beta is None:
        return model
    old = model.config
    alpha = old.alpha if workload.alpha is None else workload.alpha
    beta = old.beta if workload.beta is None else workload.beta
    config = GlimmerConfig.from_proportions(old.t5, alpha, beta, k=max(old.k, old.m), m=old.m)
    layers, table = model.memory.layers + model.live.layers, model.memory.relative_attention_bias
    first = config.num_memory_layers
    return replace(model, config=config, memory=Stack(table, layers[:first]), live=Stack(table, layers[first:]))


def tokens(end: int, sequences: int, length: int, seed: int) -> Tokens:
    """Random ids below the id of the end of sequence."""
    ids = np.random.default_rng(seed).integers(2, end, sequences * length, dtype=np.int32)
    return Tokens(ids, np.full(sequences, length, np.int64))


def question_and_passages(workload: Workload, t5: T5Config) -> tuple[Tokens, Tokens, np.ndarray]:
    """b questions, k passages for each, and the number of passages for each question."""
    counts = np.full(workload.b, workload.k, np.int64)
    return (
        tokens(t5.eos_token_id, workload.b, workload.n_q, 1),
        tokens(t5.eos_token_id, workload.pairs, workload.n_p, 2),
        counts,
    )


def drawn_states(rows: int, columns: int) -> np.ndarray:
    """Random states in place of a memory's; the time of the next stages does not depend on their values."""
    return np.random.default_rng(3).standard_normal((rows, columns), np.float32)


def _states(ops: Ops, rows: int, columns: int) -> Array:
    return ops.to_device(drawn_states(rows, columns))


def _encoder(workload: Workload, ops: Ops, model: Model) -> Runs:
    texts = question_and_passages(workload, model.config.t5)
    return Runs(lambda ops: encode_pairs(ops.scope("encoder"), model, *texts))


def _memory(workload: Workload, ops: Ops, model: Model) -> Runs:
    passages = question_and_passages(workload, model.config.t5)[1]
    return Runs(lambda ops: encode_passages(ops, model, passages))


def _decode(workload: Workload, ops: Ops, model: Model) -> Runs:
    lengths = np.full(workload.b, workload.read, np.int64)
    states = _states(ops, int(lengths.sum()), model.config.t5.d_model)
    memory = States(states, lengths, token_positions(lengths))
    if workload.kind == "answer":
        return Runs(lambda ops: greedy(ops, model, memory, workload.steps))
    return Runs(lambda ops: greedy(ops, model, memory, 1 + workload.steps), lambda ops: greedy(ops, model, memory, 1))


def _system(workload: Workload, ops: Ops, model: Model) -> Runs:
    q, p, counts = question_and_passages(workload, model.config.t5)
    known: Tokens | States = p
    if workload.kind not in FROM_TEXT:
        known = States(_states(ops, len(p.ids), model.config.t5.d_model), p.lengths, token_positions(p.lengths))

    def run(ops: Ops) -> Any:
        read = SYSTEMS[workload.kind](ops, model, q, known, counts, workload.m)
        return greedy(ops, model, read.memory, workload.steps) if workload.steps else read

    return Runs(run)


def _attention(workload: Workload, ops: Ops, model: Model) -> Runs:
    t5, n = model.config.t5, workload.n_q + workload.n_p
    lengths = np.full(workload.pairs, n, np.int64)
    at = token_positions(lengths)
    w, x = model.memory.layers[0].attention, _states(ops, len(at), t5.d_model)
    q, k, v = (ops.linear(x, weight) for weight in (w.q, w.k, w.v))  # so they lie in main memory as they do in a layer
    bias, layout = _states(ops, 2 * n - 1, t5.num_heads), SequenceLayout(lengths, lengths, at, at)
    return Runs(lambda ops: ops.attention(q, k, v, bias, layout, t5.num_heads, False))


def _linear(workload: Workload, ops: Ops, model: Model) -> Runs:
    t5, layer, rows = model.config.t5, model.memory.layers[0], workload.pairs * (workload.n_q + workload.n_p)
    wide, inner, hidden = (_states(ops, rows, n) for n in (t5.d_model, t5.num_heads * t5.d_kv, t5.d_ff))
    a, f = layer.attention, layer.feed_forward
    pairs = [*((wide, w) for w in (a.q, a.k, a.v, f.wi_0, f.wi_1)), (inner, a.o), (hidden, f.wo)]
    return Runs(lambda ops: [ops.linear(x, w) for x, w in pairs])


KINDS: Mapping[str, Kind] = {
    "encoder": Kind("all encoder layers over pairs", "pair", lambda w: w.pairs, _encoder),
    "decode": Kind("greedy tokens after the first", "token", lambda w: w.b * w.steps, _decode, "reads"),
    "answer": Kind("greedy tokens from the encoder's output", "token", lambda w: w.b * w.steps, _decode),
    "fid": Kind("FiD, text to answer", "question", lambda w: w.b, _system),
    "lumen": Kind("LUMEN, memory to answer", "question", lambda w: w.b, _system),
    "glimmer": Kind("GLIMMER, memory to answer", "question", lambda w: w.b, _system),
    "memory": Kind("memory building", "token", lambda w: w.pairs * w.n_p, _memory),
    "attention": Kind("attention alone, one layer", "layer", lambda w: 1, _attention),
    "linear": Kind("matrix products alone, one layer", "layer", lambda w: 1, _linear),
}
PRESETS = {
    "encoder-5": Workload("encoder", k=5),
    "encoder-25": Workload("encoder", k=25),
    "decode": Workload("decode", k=5),
    "answer": Workload("answer", k=5),
    "fid-5": Workload("fid", k=5),
    "fid-25": Workload("fid", k=25),
    "lumen-10": Workload("lumen", k=10),
    "glimmer-25-5": Workload("glimmer", k=25, m=5),
    "memory": Workload("memory", k=25),
    "attention": Workload("attention", k=5),
    "linear": Workload("linear", k=5),
}


def parse(text: str) -> Workload:
    """Parse a preset's name or a kind, either of them with fields: "glimmer-25-5", "glimmer,k=50,beta=1/2".

    Raises:
        InputError: no such workload or field, or a value out of its range.
    """
    name, *settings = text.split(",")
    workload = PRESETS.get(name) or (Workload(name) if name in KINDS else None)
    if workload is None:
        raise InputError("work", f"one of {', '.join(dict.fromkeys([*PRESETS, *KINDS]))}", repr(name))
    known = {f.name for f in fields(Workload)} - {"kind"}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in known:
            raise InputError(f"work {name}", f"only the keys {', '.join(sorted(known))}", repr(field))
        values: dict[str, Any] = {field: _value(field, value)}
        workload = replace(workload, **values)
    if workload.kind == "glimmer" and workload.m > workload.k:
        raise InputError(f"work {text}", "m of at most k", f"k={workload.k}, m={workload.m}", "lower m or raise k")
    return workload


def _value(field: str, text: str) -> int | Fraction:
    try:
        value = Fraction(text) if field in ("alpha", "beta") else int(text)
    except (ValueError, ZeroDivisionError):
        value = -1
    minimum = 0 if field in ("alpha", "beta", "steps") else 1
    if value < minimum:
        raise InputError(f"work: {field}", f"a number of at least {minimum}", repr(text))
    return value


def spell(workload: Workload) -> str:
    """The workload as `parse` reads it: a preset's name if it is one."""
    if named := next((name for name, preset in PRESETS.items() if preset == workload), None):
        return named
    plain, names = Workload(workload.kind), [f.name for f in fields(Workload)[1:]]
    changed = [f"{n}={getattr(workload, n)}" for n in names if getattr(workload, n) != getattr(plain, n)]
    return ",".join([workload.kind, *changed])


def prepare(workload: Workload, ops: Ops, model: Model) -> Runs:
    """The workload's inputs, and the function to time.

    Args:
        model: prepared for `ops`.
    """
    return KINDS[workload.kind].prepare(workload, ops, with_proportions(model, workload))


@cache
def macs(workload: Workload, config: GlimmerConfig) -> dict[str, int]:
    """Multiply-adds by component, counted in a run of the same function with shapes only.

    The paper's algorithm has this number. A fast decoder may compute another; see `ops.cpu.executed_macs`.
    """
    ops = Ops(shape_backend)
    runs = prepare(workload, ops, build_model(config, tied=False, param=lambda _, shape: zeros(*shape)))
    whole, part = MacCounter(ops), MacCounter(ops)
    runs.run(whole)
    if runs.less is not None:
        runs.less(part)
    return {name: n - part.macs.get(name, 0) for name, n in whole.macs.items() if n > part.macs.get(name, 0)}


def least_bytes(workload: Workload, config: GlimmerConfig, precision: str) -> int:
    """Bytes that decoding must read from memory in all steps: the decoder's weights, and the data that it attends to.

    This data is either the keys and values in float32, or the two weights of cross-attention that make them from the
    memory, whichever has fewer bytes. The decoder's own KV cache is left out.
    """
    if workload.kind != "decode":
        return 0
    t5, hc = config.t5, config.t5.num_heads * config.t5.d_kv
    layer, cross = 6 * t5.d_model * hc + 3 * t5.d_model * t5.d_ff, 2 * t5.d_model * hc * WIDTHS[precision]
    products = (t5.num_decoder_layers * layer + t5.vocab_size * t5.d_model) * WIDTHS[precision]
    return workload.steps * (products + t5.num_decoder_layers * min(cross, 4 * 2 * hc * workload.b * workload.read))
