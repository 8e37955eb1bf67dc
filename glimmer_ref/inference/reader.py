"""The reader: it takes questions and passages as strings, and gives answers with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..data.inputs import Passage, as_passages
from ..errors import InputError
from ..instruments import Profiler, Trace
from ..memory.store import Memory, memorize
from ..ops import BLAS, Ops, bind
from ..paper import decoding, lumen
from ..paper.systems import FROM_TEXT, SYSTEMS
from ..params import checkpoint, hub
from ..params.model import Model, computed_in, prepare_params
from ..ragged import Ints, States, Tokens
from ..retrieval.bm25 import BM25
from ..text.adapter import Reading, TextAdapter, Unchanged
from ..text.tokenizer import Tokenizer
from ..text.words import distinct
from ..world.name_substitution import name_substituter
from .answer import Answer, check_finite, compare, cost_of, without_warnings
from .text_inputs import TextInputs, passages_at
from .tracing import attention_shares, trace_ids

BUNDLED = "mini"

PassageSource = Memory | Iterable["Passage | str | Mapping[str, str]"]


class Reader:
    """A model with its tokenizer, bound to a backend of the operations.

    Args:
        model: the model with weights as NumPy arrays.
        tokenizer: turns strings into ids. `trace`, which takes ids, does not need it.
        ops: the name of the backend, "numpy", "numba" or "cuda".
        precision: the precision of products with weights: "float32", "bfloat16" or "int8". The backend "cuda" does not
            have "int8".
        threads: the number of threads that an answer may use; None means all. It must be None in float64 and with
            "numpy", because NumPy's BLAS then computes the products and manages its own threads.
        adapter: changes the way some words are read, for example unknown names; None reads all words by the tokenizer.

    Raises:
        InputError: an unknown backend or precision; a precision that the backend or the weights do not support; more
            threads than the machine has; a number of threads where BLAS manages its own.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        ops: str = "numba",
        precision: str = "float32",
        threads: int | None = None,
        adapter: TextAdapter | None = None,
    ) -> None:
        self.threads = threads
        self.folder: Path | None = None  # the folder from which `load` read the model
        self.config, self.tokenizer = model.config, tokenizer
        self.adapter = Unchanged(tokenizer) if adapter is None else adapter
        self.inputs = TextInputs(model.config, tokenizer, self.adapter)
        self.ops = bind(ops)
        with self.limited():  # checks `threads` before the weights are prepared
            self.model = prepare_params(self.ops, model, precision)
        self.precision = computed_in(self.model)
        if threads is not None and self.precision == "float64":
            raise InputError("threads", f"none in float64, {BLAS}", str(threads), "use dtype float32")

    def limited(self) -> AbstractContextManager[None]:
        """A context in which operations that this Python thread calls use the reader's `threads`."""
        return self.ops.limited(self.threads)

    def memorize(self, passages: Iterable[Passage | str | Mapping[str, str]]) -> Memory:
        """MemEnc of passages, kept in main memory, for any number of questions."""
        known = as_passages(passages)
        reading = self.inputs.adapter.passages(self.inputs.passage_texts(known))
        with self.limited():
            return memorize(self.ops, self.model, self.tokenizer, known, reading)

    def ask(
        self,
        question: str,
        source: PassageSource,
        system: str = "glimmer",
        k: int | None = None,
        m: int | None = None,
        attention: bool = False,
    ) -> Answer:
        """Answer one question.

        Args:
            question: the question. If it has no prefix, the model's first prefix is added.
            source: passages, or their memory. If there are more than k passages, the k passages with the highest BM25
                scores are considered. An index of embeddings may find better passages.
            system: "glimmer", "lumen" or "fid".
            k: the number of passages to consider. The default is the model's own k, or all passages if there are fewer.
            m: the number of passages that GLIMMER's decoder reads. The default is the model's own m, or k if k is less.
            attention: whether to compute `Answer.attention`.

        Raises:
            InputError: an empty question or passage, m > k, k > passages, an unknown system; weights that
                give logits or scores that are not finite.
        """
        clock = Profiler(self.ops)
        known = source if isinstance(source, Memory) else as_passages(source)
        with clock.during("retrieval"):
            rows, retrieval = self.retrieve(question, known, k)
        return self._answers(clock, [question], known, [rows], system, m, attention, retrieval)[0]

    def retrieve(self, question: str, source: Memory | Sequence[Passage], k: int | None) -> tuple[Ints, str]:
        """The indices of the k passages to consider in the source, and the rule that found them."""
        total = len(source)
        k = self.check_k(k, total)
        if k == total:
            return np.arange(total), "given order"
        passages = source.passages() if isinstance(source, Memory) else source
        return BM25(passages, distinct(question)).rank(question, k), "lexical score (BM25)"

    def check_k(self, k: int | None, total: int) -> int:
        """k, or the model's own k if it is None, after checking that the source has so many passages.

        Args:
            total: the number of passages in the source.

        Raises:
            InputError: k is not from 1 to `total`.
        """
        if k is None:
            k = min(self.config.k, total)
        if not 1 <= k <= total:
            raise InputError("k", f"a number from 1 to {total}, the number of passages", str(k))
        return k

    def unknown_words(self, question: str) -> list[str]:
        """Words of the question that are not in the tokenizer's vocabulary."""
        return self.tokenizer.unknown_words(self.inputs.question_text(question))

    def compare(self, answer: Answer) -> dict[str, dict[str, int]]:
        """Multiply-adds by stage that each system needs for this answer. See `answer.compare`."""
        return compare(self.config, answer)

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
        """Answer several questions in one batch. Each question has its own passages from the same source.

        `macs`, `macs_done` and `seconds` of each answer are figures of the whole batch.

        Args:
            rows: for each question, the indices of its passages in the source.
            retrieval: the rule that found the passages, for `Answer.retrieval`.
        """
        return self._answers(Profiler(self.ops), questions, source, rows, system, m, attention, retrieval)

    def _answers(
        self,
        clock: Profiler,
        questions: Sequence[str],
        source: Memory | Sequence[Passage],
        rows: Sequence[Ints],
        system: str,
        m: int | None,
        attention: bool,
        retrieval: str,
    ) -> list[Answer]:
        counts = np.array([len(r) for r in rows], np.int64)
        m = self.check_m(system, int(counts.min()), m)
        trace = Trace(clock, only=r"decoder\..*cross_attention\.probs")
        instrument = trace if attention else clock
        with clock.during("text"):
            chosen = [passages_at(source, r) for r in rows]
            readings = [self.inputs.reading(text, some, source) for text, some in zip(questions, chosen, strict=True)]
            q = self.inputs.questions(questions, readings)
        with self.limited(), without_warnings():
            passages = self._inputs(instrument, clock, source, np.concatenate(rows), system, readings, chosen)
            got = SYSTEMS[system](instrument, self.model, q, passages, counts, m)
            answers = decoding.greedy(instrument, self.model, got.memory, self.config.answer_tokens)
        check_finite([a.log_probability for a in answers], got.scores)
        starts = np.cumsum(counts)[:-1]
        lengths, none = np.split(passages.lengths, starts), [None] * len(rows)
        scores = none if got.scores is None else np.split(got.scores, starts)
        ids = [a.ids for a in answers]
        cost = cost_of(instrument, self.model, system, q.lengths, lengths, got, ids, isinstance(source, Memory))
        attended = attention_shares(trace.arrays, q.lengths, passages.lengths, counts, got) if attention else none
        no = self.config.no_answer
        result = [
            Answer(
                text := words.decode(a.ids), a.ids, words.pieces(a.ids), a.log_probability, system,
                c, retrieval, s, sel.tolist(), **cost, seconds=clock.seconds, question_tokens=int(n),
                passage_tokens=p.tolist(), attention=at, precision=self.precision, substituted=substituted,
                unknown=unknown, answered=not no or text != no,
            )
            for (words, substituted, unknown), a, c, s, sel, n, p, at in zip(
                readings, answers, chosen, scores, got.selected, q.lengths, lengths, attended, strict=True
            )
        ]  # fmt: skip
        clock.rest()
        return result

    def check_m(self, system: str, k: int, m: int | None) -> int:
        """m, or the model's own m if it is None, after checking it. 0 for a system that reads all passages.

        Raises:
            InputError: an unknown system; m given for a system that reads all passages; m that is not from 1 to k.
        """
        if system not in SYSTEMS:
            raise InputError("system", f"one of {', '.join(SYSTEMS)}", repr(system))
        if system != "glimmer":
            if m is not None:
                raise InputError(
                    "m",
                    f"none for {system}, which reads all k passages",
                    str(m),
                    "leave m out; k sets how many it reads",
                )
            return 0
        if m is None:
            return min(self.config.m, k)
        if not 1 <= m <= k:
            raise InputError("m", "a number from 1 to k", f"k={k}, m={m}", "lower m or raise k" if m > k else "")
        return m

    def _inputs(
        self,
        ops: Ops,
        clock: Profiler,
        source: Memory | Sequence[Passage],
        rows: Ints,
        system: str,
        readings: list[Reading],
        chosen: list[list[Passage]],
    ) -> Tokens | States:
        """The passages as the system takes them: tokens, or memory that is read from a store or computed now."""
        if system not in FROM_TEXT and isinstance(source, Memory):
            with clock.during("read"):
                stored = source.read(rows, dtype=self.model.embedding.dtype.name)
            return replace(stored, states=self.ops.to_device(stored.states))
        with clock.during("text"):
            tokens = self.inputs.passages(chosen, readings)
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
        """Every named array of one run from token ids. See `trace_ids`."""
        with self.limited(), without_warnings():
            return trace_ids(self.ops, self.model, question, passages, target, system, m, only)


def bundled(name: str = BUNDLED) -> Path:
    """The folder of bundled weights, in an installed package or in a checkout; without a name, of the bundled model."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "weights" / name, here.parent / "weights" / name):
        if folder.is_dir():
            return folder
    raise InputError(
        "bundled weights", f"a folder weights/{name} beside the package", "none", "install glimmer_ref again"
    )


def load(
    folder: str | Path | None = None,
    ops: str = "numba",
    dtype: str = "float32",
    precision: str = "float32",
    threads: int | None = None,
    download: bool = False,
    revision: str | None = None,
) -> Reader:
    """A reader from a model folder. Without a folder, it reads the bundled model.

    Args:
        folder: a folder with config.json, model.safetensors and tokenizer.json. It may also have groups.json, whose
            names replace unknown names. Or the name of a model in Hugging Face's cache, such as "user/model".
        ops: the backend: "numba"; "numpy", the reference; or "cuda", for an NVIDIA GPU.
        dtype: "float32" or "float64".
        precision, threads: see `Reader`.
        download, revision: for the name of a model, see `hub.find`. `Reader.folder` is then named after the commit.

    Raises:
        InputError: a file in the folder is missing, broken or does not fit the others; any error of `Reader` and
            `hub.find`.
    """
    folder = hub.find(bundled() if folder is None else folder, download, revision)
    model = checkpoint.load(folder, dtype)
    tokenizer = Tokenizer(folder / "tokenizer.json", model.config.t5.vocab_size)
    reader = Reader(model, tokenizer, ops, precision, threads, name_substituter(folder, tokenizer))
    reader.folder = folder
    return reader
