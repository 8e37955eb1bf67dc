"""The memory that a step takes, by a formula: what the tape keeps, what comes and goes beside it, and the weights."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..config import GlimmerConfig, T5Config
from ..params.model import shapes
from ..ragged import Ints
from .batches import Batch, parts
from .step import Learner

NUMBER = 4  # bytes: float32
COPIES = 4  # of all weights: laid out, their gradients, those of the parts before, and updated
AT_ONCE = 6  # arrays as large as its largest operand that an operation or its backward holds, at most


class Sizes(NamedTuple):
    """Numbers that the tape keeps of one layer, for each row or each pair of a query and a key.

    Args:
        encoder, decoder: of a row.
        memory: of a row that the decoder attends to: its key and value.
        pair: what dropout draws for attention.
        logits: of a row of an answer, outside the layers.
    """

    encoder: int
    decoder: int
    memory: int
    pair: int
    logits: int

    @classmethod
    def of(cls, t5: T5Config, drops: bool) -> Sizes:
        d, hc, f = t5.d_model, t5.num_heads * t5.d_kv, t5.d_ff
        hidden = 3 * f if t5.feed_forward_proj == "gated-gelu" else 2 * f  # both products, and what is made of them
        block = 5 * d if drops else 3 * d  # normed, product, sum; factors and what they leave
        feed_forward = block + hidden + (2 * f if drops else 0)
        heads = t5.num_heads if drops else 0
        return cls(
            block + 4 * hc + feed_forward, 2 * block + 6 * hc + feed_forward, 2 * hc, heads, t5.vocab_size + 2 * block
        )


class Work(NamedTuple):
    """Rows of a batch.

    Args:
        passages, question, pairs, best, targets: lengths of sequences; `best` of the longest m pairs of each question.
        each: of the answers that distillation reads, one a passage.
    """

    passages: Ints
    question: Ints
    pairs: Ints
    best: Ints
    targets: Ints
    each: Ints

    @classmethod
    def of(cls, batch: Batch, m: int) -> Work:
        owner = np.repeat(np.arange(len(batch.counts)), batch.counts)
        pairs = batch.question.lengths[owner] + batch.passages.lengths
        ends = np.cumsum(batch.counts)
        each = zip(ends, batch.counts, batch.gold, strict=True)
        best = np.concatenate([np.sort(pairs[end - n : end])[-max(m, len(gold)) :] for end, n, gold in each])
        lengths = batch.target.lengths
        return cls(batch.passages.lengths, batch.question.lengths, pairs, best, lengths, lengths[owner])


def _distils(learner: Learner) -> bool:
    return learner.system == "glimmer" and learner.stage.lambda_ > 0


def _encoded(sizes: Sizes, lengths: Ints, layers: int) -> int:
    return layers * int(sizes.encoder * lengths.sum() + sizes.pair * (lengths**2).sum())


def _decoded(t5: T5Config, sizes: Sizes, targets: Ints, memory: int) -> int:
    """Numbers of a decoder over answers, logits included; dropout is counted as if all were as long as the longest."""
    rows, area = int(targets.sum()), sizes.pair * int((targets**2).sum() + targets.max(initial=0) * memory)
    return t5.num_decoder_layers * (sizes.decoder * rows + sizes.memory * memory + area) + sizes.logits * rows


def _layers_after(config: GlimmerConfig) -> int:
    """Layers that the selected pairs pass: what ranks is the live encoder's beginning, or a stack of its own."""
    return config.num_live_layers - (config.num_rerank_layers if config.reranker == "shared" else 0)


def _encoders(learner: Learner, work: Work, sizes: Sizes) -> int:
    """Numbers that the tape keeps of all encoders' layers."""
    config = learner.config
    if learner.system == "fid":
        return _encoded(sizes, work.pairs, config.t5.num_layers)
    numbers = _encoded(sizes, work.question, config.num_memory_layers)
    numbers += 0 if learner.memory_is_data else _encoded(sizes, work.passages, config.num_memory_layers)
    if learner.system == "lumen":
        return numbers + _encoded(sizes, work.pairs, config.num_live_layers)
    numbers += _encoded(sizes, work.pairs, config.num_rerank_layers)
    return numbers + _encoded(sizes, work.best, _layers_after(config))


def _taped(learner: Learner, work: Work, sizes: Sizes) -> int:
    """Numbers that the tape keeps until it replays them."""
    config, d = learner.config, learner.config.t5.d_model
    pairs, passages, question = (int(x.sum()) for x in (work.pairs, work.passages, work.question))
    read = question + (int(work.best.sum()) if learner.system == "glimmer" else pairs)
    numbers = _encoders(learner, work, sizes) + d * (2 * passages + 2 * pairs + 5 * read)  # embedded, joined, taken
    numbers += _decoded(config.t5, sizes, work.targets, read)
    if _distils(learner) and learner.stage.through_p_lm:
        numbers += _encoded(sizes, work.pairs, _layers_after(config)) + 5 * d * 2 * pairs
        numbers += _decoded(config.t5, sizes, work.each, 2 * pairs)
    return numbers


def _passing(learner: Learner, work: Work, sizes: Sizes) -> int:
    """Numbers beside the tape: distillation's reading, or one layer's cotangents and those of the decoder's memory."""
    t5, pairs = learner.config.t5, int(work.pairs.sum())
    distils = _distils(learner)
    answers = int((work.each if distils else work.targets).sum())
    memory = 2 * pairs if distils else pairs + int(work.question.sum())
    largest = max(pairs * max(t5.d_ff, t5.d_model), answers * t5.vocab_size)
    layers = t5.num_decoder_layers * sizes.memory
    return sizes.encoder * pairs + layers * (memory + answers) + AT_ONCE * largest


def step_bytes(learner: Learner, batch: Batch) -> int:
    """4 (4 W + tape + passing): bytes that a step takes at most, with float32 weights, beside the W it begins with.

    The tape keeps 6 d + 4 h c + 3 f numbers for each row and layer of an encoder, 9 d + 6 h c + 3 f of the decoder's,
    2 h c for each row and layer that the decoder attends to, and v for each row of an answer; dropout adds its
    factors and what they leave. What passes is one layer's cotangents, or what distillation reads without a tape,
    and six arrays of the largest operation. Rows count as they are: nothing is padded.

    Args:
        learner: its stage says m, dropout, and in how many parts the batch is computed, one after the other.
        batch: of the step.
    """
    weights = sum(math.prod(shape) for shape in shapes(learner.config).values())
    sizes, numbers = Sizes.of(learner.config.t5, learner.stage.dropout > 0), 0
    for part in parts(batch, learner.stage.accumulate):
        work = Work.of(part, learner.stage.m)
        numbers = max(numbers, _taped(learner, work, sizes) + _passing(learner, work, sizes))
    return NUMBER * (COPIES * weights + numbers)
