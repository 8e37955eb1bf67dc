"""CTranslate2: its encoder by itself, and its whole T5, which always encodes the text before it decodes.

It cannot be given states to decode from, so decoding reads one text as long as all pairs together. The encoder's time
does not count: the clock starts at the first token ("decode"), or the encoder's own time is subtracted ("answer"). So
that little is subtracted, that model has one encoder layer; what the decoder reads does not change its time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import ctranslate2
import numpy as np

from glimmer_ref.bench.measure import Job, RunDetails, Watch
from glimmer_ref.bench.ours import CHECKED
from glimmer_ref.bench.workload import parse, tokens
from glimmer_ref.errors import InputError

from . import inputs


def _word(i: int) -> str:
    return f"t{i}"


class Models(NamedTuple):
    """The folder's weights as CTranslate2 reads them."""

    encoder: Path
    whole: Path
    short: Path  # the whole with one encoder layer
    short_encoder: Path


def convert(folder: Path) -> Models:
    """All models, kept beside the weights."""
    result = Models(*(folder / f"ct2{name}" for name in ("-encoder", "", "-short", "-short-encoder")))
    if not result.whole.exists():
        _convert(folder, result.encoder, result.whole)
    if not result.short.exists():
        _convert(folder, result.short_encoder, result.short, layers=1)
    return result


def _convert(folder: Path, encoder: Path, whole: Path, layers: int | None = None) -> None:
    """Write the encoder, cut to a number of layers, and then the whole with this encoder."""
    import transformers
    from ctranslate2.converters.transformers import T5Loader
    from ctranslate2.specs import TransformerEncoderModelSpec

    model = transformers.T5ForConditionalGeneration.from_pretrained(folder)
    model.encoder.block = model.encoder.block[:layers]
    model.config.num_layers = len(model.encoder.block)
    end, eps = _vocabulary(folder) - 1, model.config.layer_norm_epsilon
    spec = T5Loader().get_model_spec(model)
    alone = TransformerEncoderModelSpec(T5Loader().get_model_spec(model).encoder)  # writing one changes it
    words = [_word(i) for i in range(model.config.vocab_size)]
    spec.register_source_vocabulary(words)
    spec.register_target_vocabulary(words)
    alone.register_vocabulary(words)
    spec.config.decoder_start_token = spec.config.bos_token = _word(0)
    for config in (spec.config, alone.config):
        config.layer_norm_epsilon = eps
        config.eos_token, config.unk_token = _word(end), _word(1)
    _save(alone, encoder)
    _save(spec, whole)


def _save(spec: Any, path: Path) -> None:
    spec.validate()
    spec.optimize()
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.mkdir()
    spec.save(str(temporary))
    temporary.rename(path)


class CT2:
    """Both models, in float32 or with weights made int8 as they are loaded."""

    def __init__(self, precision: str, folder: Path, threads: int) -> None:
        models = convert(folder)
        self.options = {"compute_type": precision, "inter_threads": 1, "intra_threads": threads}
        self.encoder = ctranslate2.Encoder(str(models.encoder), **self.options)
        self.whole = ctranslate2.Translator(str(models.whole), **self.options)
        self.models = models
        self.end = _vocabulary(folder) - 1

    def about(self) -> dict[str, Any]:
        """Its version, and the settings of its computation."""
        return {"ctranslate2": ctranslate2.__version__, "compute_type": self.encoder.compute_type}

    def encode(self, ids: np.ndarray, encoder: Any = None) -> np.ndarray:
        """[b n] -> [b n d], by the whole encoder if no other is given."""
        rows = ctranslate2.StorageView.from_array(ids.astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(np.full(len(ids), ids.shape[1], np.int32))
        return np.asarray((encoder or self.encoder).forward_batch(rows, lengths).last_hidden_state)

    def decode(self, model: Any, words: list[list[str]], steps: int) -> tuple[list[list[str]], Watch]:
        """Greedily decoded words of a model for texts, and a watch that began at the first word."""
        begun: list[Watch] = []

        def first(step: Any) -> bool:
            if not begun:
                begun.append(Watch())
            return False

        got = model.translate_batch(
            words,
            beam_size=1,
            max_input_length=0,
            min_decoding_length=steps,
            max_decoding_length=steps,
            callback=first,
        )
        written = [result.hypotheses[0] for result in got]
        if any(len(row) != steps for row in written):
            raise InputError("CTranslate2", f"{steps} tokens", f"{[len(row) for row in written]}")
        return written, begun[0]

    def job(self, workload: str) -> Job:
        """The encoder, or decoding."""
        task = parse(workload)
        if task.kind not in ("encoder", "decode", "answer"):
            raise InputError(workload, "encoder, decode or answer of CTranslate2, which cannot fuse pairs", task.kind)
        ids = inputs.pairs(task, self.end)
        rows = tokens(self.end, task.b, task.read, 4)
        words = [[_word(i) for i in rows[row]] for row in range(task.b)]

        def encoder() -> None:
            self.encode(ids)

        def decode() -> RunDetails:
            return RunDetails(counted=self.decode(self.whole, words, 1 + task.steps)[1].read())

        if task.kind == "answer":
            return self._answer(rows.ids.reshape(task.b, -1), words, task.steps)
        return encoder if task.kind == "encoder" else decode

    def _answer(self, ids: np.ndarray, words: list[list[str]], steps: int) -> Job:
        """Decoding from the encoder's output to the last of `steps` tokens."""
        short = ctranslate2.Translator(str(self.models.short), **self.options)
        encoder = ctranslate2.Encoder(str(self.models.short_encoder), **self.options)

        def run() -> RunDetails:
            watch = Watch()
            self.encode(ids, encoder)
            less = watch.read()
            watch = Watch()
            self.decode(short, words, steps)
            wall, cpu = (whole - part for whole, part in zip(watch.read(), less, strict=True))
            return RunDetails(counted=(wall, cpu))

        return run

    def check(self, path: str) -> list[str]:
        """The encoder's output, and the first ids from one pair alone."""
        ids = inputs.pairs(CHECKED, self.end)
        states = self.encode(ids)
        written = self.decode(self.whole, [[_word(i) for i in ids[0]]], CHECKED.steps)[0][0]
        first = np.array([int(word[1:]) for word in written])
        np.savez(path, encoder=states.reshape(-1, states.shape[-1]), first_ids=first)
        return ["encoder", "first_ids"]


def _vocabulary(folder: Path) -> int:
    import json

    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def open_(size: str, precision: str, folder: Path, threads: int) -> CT2:
    """The engine."""
    return CT2(precision, folder, threads)
