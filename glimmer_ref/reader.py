"""The reader: questions and passages as strings in, answers with their reasons out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .arrays import Arriving, Ints, States, Tokens
from .errors import Refused
from .listeners import Clock, Trace
from .ops import BLAS, Ops, bind
from .paper import fid, lumen
from .paper.flops import by_shapes
from .paper.systems import FROM_TEXT, SYSTEMS
from .params import files
from .params.tree import Model, computed_in, lay_out
from .retrieval import lexical
from .retrieval.memory import Memory, memorize
from .text.inputs import Passage, passage_tokens, question_text, question_tokens
from .text.tokenizer import Tokenizer
from .tracing import attention_shares, trace_ids
from .whatif.traced import traced_macs

BUNDLED = "mini"

Source = Memory | Iterable["Passage | str | Mapping[str, str]"]


@dataclass(frozen=True)
class Answer:
    """An answer, and what led to it.

    Args:
        text: the answer.
        ids: its tokens, without start and end; `tokens` are their strings.
        log_probability: log p of these tokens and the end, given what the decoder read.
        passages: the k passages that were considered, in retrieval order.
        retrieval: how they came into that order.
        scores: [k] their scores; None for LUMEN and FiD, which rank nothing.
        selected: [m] which of them the decoder read, in its order (GLIMMER: best first).
        macs: multiply-adds by component, what `Count` would hear.
        seconds: wall time inside the operations by component; `read` is what was waited for stored memory.
        attention: [t 1+m] how much each answer token (and the end) attended to the question and to
            each selected pair, mean over layers and heads; None unless asked for.
        precision: what matrix products were computed in: "float32", "bfloat16", "int8" or "float64".
    """

    text: str
    ids: list[int]
    tokens: list[str]
    log_probability: float
    system: str
    passages: list[Passage]
    retrieval: str
    scores: np.ndarray | None
    selected: list[int]
    macs: dict[str, int] = field(repr=False)
    seconds: dict[str, float] = field(repr=False)
    attention: np.ndarray | None = field(default=None, repr=False)
    precision: str = "float32"


def by_stage(macs: Mapping[str, int]) -> dict[str, int]:
    """A count with each stage's attention added to the stage."""
    result: dict[str, int] = {}
    for name, value in macs.items():
        stage = name.removesuffix(".attention")
        result[stage] = result.get(stage, 0) + value
    return result


def as_passages(source: Iterable[Passage | str | Mapping[str, str]]) -> list[Passage]:
    """Passages from strings, from {"title": .., "text": ..}, or as they are.

    Raises:
        Refused: something else among them.
    """
    result = []
    for i, item in enumerate(source):
        if isinstance(item, str):
            item = Passage(str(i), "", item)
        elif isinstance(item, Mapping) and isinstance(item.get("text"), str):
            item = Passage(str(item.get("id", i)), str(item.get("title", "")), item["text"])
        elif not isinstance(item, Passage):
            raise Refused(f"passage {i}", 'a string, or {"title": .., "text": ..}', repr(item)[:60])
        result.append(item)
    return result


class Reader:
    """A model with its tokenizer, bound to a telling of the operations.

    Args:
        model: weights on the host.
        tokenizer: for strings; a reader of ids needs none.
        ops: the operations' name, "numpy" or "numba".
        precision: what matrix products are computed with in: "float32", "bfloat16" or "int8".
        threads: that an answer may use; all that there are if not given. In float64, and with "numpy", products
            are NumPy's BLAS, which has threads of its own.

    Raises:
        Refused: unknown operations or precision, one that they or the weights cannot be computed in, more threads
            than there are, or any where BLAS has its own.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        ops: str = "numba",
        precision: str = "float32",
        threads: int | None = None,
    ) -> None:
        self.threads = threads
        self.config, self.tokenizer = model.config, tokenizer
        self.ops = bind(ops)
        with self.limited():  # refused before the weights are laid out
            self.model = lay_out(self.ops, model, precision)
        self.precision = computed_in(self.model)
        if threads is not None and self.precision == "float64":
            raise Refused("threads", f"none in float64, {BLAS}", str(threads), "use dtype float32")

    def limited(self) -> AbstractContextManager[None]:
        """A block in which the operations, called by this Python thread, use the reader's `threads`."""
        return self.ops.limited(self.threads)

    def memorize(self, passages: Iterable[Passage | str | Mapping[str, str]]) -> Memory:
        """MemEnc of passages, held in main memory, for any number of questions."""
        with self.limited():
            return memorize(self.ops, self.model, self.tokenizer, as_passages(passages))

    def ask(
        self,
        question: str,
        source: Source,
        system: str = "glimmer",
        k: int | None = None,
        m: int | None = None,
        attention: bool = False,
    ) -> Answer:
        """Answer one question.

        Args:
            question: as a string; the model's first prefix is added where it has none.
            source: passages, or the memory of them. If there are more than k, the k that share the
                weightiest words with the question are considered: a stand-in for a retriever.
            system: "glimmer", "lumen" or "fid".
            k: passages considered; the model's own number, or all there are, if not given.
            m: passages that GLIMMER's decoder reads; likewise.
            attention: also tell where the decoder looked.

        Raises:
            Refused: an empty question or passage, m > k, k > passages, an unknown system.
        """
        known = source if isinstance(source, Memory) else as_passages(source)
        rows, retrieval = self.retrieve(question, known, k)
        return self.ask_many([question], known, [rows], system, m, attention, retrieval)[0]

    def retrieve(self, question: str, source: Memory | Sequence[Passage], k: int | None) -> tuple[Ints, str]:
        """Rows of the k passages to consider, and how they were found."""
        total = len(source)
        k = self.check_k(k, total)
        if k == total:
            return np.arange(total), "given order"
        passages = source.passages() if isinstance(source, Memory) else source
        return lexical.rank(question, passages, k), "lexical score (no retriever yet)"

    def check_k(self, k: int | None, total: int) -> int:
        """k, or the model's own number where it is None, held against the passages there are."""
        if k is None:
            k = min(self.config.k, total)
        if not 1 <= k <= total:
            raise Refused("k", f"at least 1 and at most the {total} passages there are", str(k), "lower k")
        return k

    def unknown_words(self, question: str) -> list[str]:
        """Words of the question that the tokenizer's vocabulary does not hold."""
        return self.tokenizer.unknown_words(question_text(self.config, question))

    def compare(self, answer: Answer, question: str) -> dict[str, dict[str, int]]:
        """Multiply-adds by stage of each system, had it given this answer from the same k passages.

        The answer's own system is as counted while it ran; attention is within its stage.
        """
        q = question_tokens(self.config, self.tokenizer, [question])
        lengths = [int(n) for n in passage_tokens(self.config, self.tokenizer, answer.passages).lengths]
        steps = min(len(answer.ids) + 1, self.config.answer_tokens)
        result = {}
        for system in SYSTEMS:
            macs = traced_macs(self.config, system, int(q.lengths[0]), lengths, steps, len(answer.selected))
            result[system] = by_stage({**macs, **answer.macs} if system == answer.system else macs)
        return result

    def ask_many(
        self,
        questions: Sequence[str],
        source: Memory | Sequence[Passage],
        rows: Sequence[Ints],
        system: str = "glimmer",
        m: int | None = None,
        attention: bool = False,
        retrieval: str = "given order",
    ) -> list[Answer]:
        """Answer several questions in one batch, each from its own rows of one source.

        `macs` and `seconds` of each answer are those of the whole batch.
        """
        counts = np.array([len(r) for r in rows], np.int64)
        m = self._check(system, counts, m)
        clock = Clock(self.ops)
        trace = Trace(clock, only=r"decoder\..*cross_attention\.probs")
        listener = trace if attention else clock
        q = question_tokens(self.config, self.tokenizer, questions)
        chosen = [self._passages(source, r) for r in rows]
        with self.limited():
            passages = self._inputs(listener, clock, source, np.concatenate(rows), system)
            got = SYSTEMS[system](listener, self.model, q, passages, counts, m)
            answers = fid.greedy(listener, self.model, got.memory, self.config.answer_tokens)
        scores = [None] * len(rows) if got.scores is None else np.split(got.scores, np.cumsum(counts)[:-1])
        macs = self._macs(system, q, passages, source, counts, got.selected, max(len(a.ids) for a in answers) + 1)
        attended: Sequence[np.ndarray | None] = [None] * len(rows)
        if attention:
            attended = attention_shares(trace.arrays, q.lengths, passages.lengths, counts, got)
        return [
            Answer(
                self.tokenizer.decode(a.ids), a.ids, self.tokenizer.pieces(a.ids), a.log_probability, system,
                c, retrieval, s, [int(i) for i in sel], macs, clock.seconds, at, self.precision,
            )
            for a, c, s, sel, at in zip(answers, chosen, scores, got.selected, attended, strict=True)
        ]  # fmt: skip

    def _macs(
        self,
        system: str,
        question: Tokens,
        passages: Tokens | States | Arriving,
        source: Memory | Sequence[Passage],
        counts: Ints,
        selected: list[Ints],
        steps: int,
    ) -> dict[str, int]:
        """What these questions cost together, by component; passages in memory cost nothing any more."""
        total: dict[str, int] = {}
        steps = min(steps, self.config.answer_tokens)
        for n, lengths, best in zip(
            question.lengths, np.split(passages.lengths, np.cumsum(counts)[:-1]), selected, strict=True
        ):
            for name, macs in by_shapes(self.config, system, int(n), lengths.tolist(), steps, best.tolist()).items():
                if name.split(".")[0] != "memory" or not isinstance(source, Memory):
                    total[name] = total.get(name, 0) + macs
        return total

    def _check(self, system: str, counts: Ints, m: int | None) -> int:
        if system not in SYSTEMS:
            raise Refused("system", f"one of {', '.join(SYSTEMS)}", repr(system))
        if system != "glimmer":
            if m is not None:
                raise Refused("m", f"none for {system}, which reads all k passages", str(m), "set k instead")
            return 0
        least = int(counts.min())
        if m is None:
            return min(self.config.m, least)
        if not 1 <= m <= least:
            raise Refused("m", "at least 1 and at most k", f"k={least}, m={m}", "lower m or retrieve more")
        return m

    def _passages(self, source: Memory | Sequence[Passage], rows: Ints) -> list[Passage]:
        return [source.passage(int(r)) if isinstance(source, Memory) else source[int(r)] for r in rows]

    def _inputs(
        self, ops: Ops, clock: Clock, source: Memory | Sequence[Passage], rows: Ints, system: str
    ) -> Tokens | States | Arriving:
        """Passages in the form that the system starts from: tokens, or memory, arriving or made now."""
        if system not in FROM_TEXT and isinstance(source, Memory):
            stored = source.stream(rows, dtype=self.model.embedding.dtype.name)
            parts = (replace(p, states=self.ops.put(p.states)) for p in clock.waits("read", stored.parts))
            return Arriving(parts, stored.lengths)
        tokens = passage_tokens(self.config, self.tokenizer, self._passages(source, rows))
        return tokens if system in FROM_TEXT else lumen.encode_passages(ops, self.model, tokens)

    def trace(
        self,
        question: Sequence[int],
        passages: Sequence[Sequence[int]],
        target: Sequence[int] | None = None,
        system: str = "glimmer",
        m: int | None = None,
        only: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Every named array of one run, from token ids. See `trace_ids`."""
        with self.limited():
            return trace_ids(self.ops, self.model, question, passages, target, system, m, only)


def bundled() -> Path:
    """The folder of the model that comes with the package, installed or in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "weights" / BUNDLED, here.parent / "weights" / BUNDLED):
        if folder.is_dir():
            return folder
    raise Refused("bundled weights", f"a folder weights/{BUNDLED} beside the package", "none", "install it again")


def load(
    folder: str | Path | None = None,
    ops: str = "numba",
    dtype: str = "float32",
    precision: str = "float32",
    threads: int | None = None,
) -> Reader:
    """A reader from a model folder; the bundled one if none is given.

    Args:
        folder: config.json, model.safetensors and tokenizer.json.
        ops: "numba", or "numpy", the oracle.
        dtype: "float32" or "float64".
        precision, threads: see `Reader`.

    Raises:
        Refused: anything in the folder that is missing, broken or does not fit, and what `Reader` refuses.
    """
    folder = bundled() if folder is None else Path(folder)
    model = files.load(folder, dtype)
    return Reader(model, Tokenizer(folder / "tokenizer.json", model.config.t5.vocab_size), ops, precision, threads)
