"""GTR, the paper's retriever: it maps texts to unit vectors, whose inner product scores a passage for a question.

Ni et al. 2022, "Large Dual Encoders Are Generalizable Retrievers": a T5 encoder, the mean over its tokens, a linear
layer, and scaling to unit length; the same for questions and passages. It is read from a folder of
sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..config import T5Config
from ..data.inputs import Passage
from ..disk.facts import digest_of
from ..disk.read import parse_json, read_json
from ..errors import InputError, brief
from ..ops import Ops
from ..paper.t5 import encode
from ..params.checkpoint import decode, open_checkpoint
from ..params.digest import weights_digest
from ..params.hub import Repository, model_files, weight_files
from ..params.model import PRODUCTS, Stack, build_stack, leaves, map_named
from ..params.name_maps import HUGGING_FACE, lines, one_embedding
from ..params.safetensors_io import Stored
from ..ragged import Array, States, Tokens, token_positions
from ..text.sentencepiece import find_tokenizer_json
from ..text.tokenizer import Tokenizer
from ..text.truncate import first_ids

INDEX, STATED = "modules.json", "config_sentence_transformers.json"
MODULES = ("Transformer", "Pooling", "Dense", "Normalize")
BATCH_TOKENS = 8192  # embedded at a time; fixed, since the last bits depend on the batch
DEFAULT_TOKENS = 512  # the limit of a text if no file states one: GTR was trained and published with it
MAX_TOKENS = 1 << 20
NO_LIMIT = 10**20  # transformers writes 10^30 or 10^20 for a tokenizer without a limit
MIN_LENGTH = 1e-12  # shorter vectors are divided by this length, as torch's normalize does
DO = "only the modules of GTR are supported"


@dataclass(frozen=True, eq=False)
class Weights:
    """A T5 encoder and what follows it: embedding [v d], layers, final norm [d], dense [d e]."""

    embedding: Array
    encoder: Stack
    final_norm: Array
    dense: Array


@dataclass(frozen=True, eq=False)
class GTR:
    """The retriever on a backend.

    Args:
        max_tokens: the limit of a text with its end-of-sequence token; longer texts are cut at the right end.
        digest: a digest of everything that decides an embedding.
    """

    ops: Ops
    t5: T5Config
    weights: Weights
    tokenizer: Tokenizer
    max_tokens: int
    digest: str

    @property
    def size(self) -> int:
        """How many numbers an embedding has."""
        return int(self.weights.dense.shape[1])

    def _ids(self, text: str) -> list[int]:
        if not text.strip():
            raise InputError("GTR: text", "some text", repr(text))
        return [*first_ids(self.tokenizer, text, self.max_tokens - 1)[0], self.t5.eos_token_id]

    def __call__(self, texts: Iterable[str]) -> np.ndarray:
        """Embeddings of texts, each followed by the end-of-sequence token: [b e].

        Raises:
            InputError: a text that is empty or not valid Unicode, or an embedding that is not finite.
        """
        found, batch, size = [np.zeros((0, self.size), self.weights.dense.dtype)], list[list[int]](), 0
        for ids in map(self._ids, texts):
            if batch and size + len(ids) > BATCH_TOKENS:
                found.append(embed(self.ops, self.t5, self.weights, Tokens.of(batch)))
                batch, size = [], 0
            batch.append(ids)
            size += len(ids)
        if batch:
            found.append(embed(self.ops, self.t5, self.weights, Tokens.of(batch)))
        result = np.concatenate(found)
        if not np.isfinite(result).all():
            raise InputError("GTR", "finite embeddings", "inf or nan", "check the weights")
        return result


def embed(ops: Ops, t5: T5Config, w: Weights, texts: Tokens) -> np.ndarray:
    """e = u / |u|, u = mean_n(T5Enc(text)_n) W: one unit vector for each text, [b e].

    The mean is over all tokens, with the end-of-sequence token, after the final norm of the encoder.

    Paper: 4.1 retriever
    """
    x = States(ops.embed(w.embedding, texts.ids), texts.lengths, token_positions(texts.lengths))
    states = ops.rms_norm(encode(ops, t5, w.encoder, x).states, w.final_norm, t5.layer_norm_epsilon)
    u = np.asarray(ops.to_host(ops.linear(ops.mean(states, texts.lengths), w.dense)))
    return u / np.maximum(np.sqrt((u * u).sum(axis=1, keepdims=True)), MIN_LENGTH)


def passage_text(passage: Passage) -> str:
    """The text of a passage that is embedded: its title, a space, its text."""
    return f"{passage.title} {passage.text}".strip()


def _object(path: Path) -> dict[str, Any]:
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(str(path), "a JSON object", type(data).__name__)
    return data


def _only(path: Path, name: str, got: Any, wanted: Any) -> None:
    """Check a setting that has one supported value."""
    if got != wanted:
        raise InputError(str(path), f"{name}={json.dumps(wanted)}", json.dumps(got)[:60], DO)


def _modules(path: Path) -> list[str]:
    """The folders of the four modules of GTR, from modules.json; "" is the folder of that file."""
    if not path.exists():
        wanted = "a GTR model of sentence-transformers"
        raise InputError(str(path.parent), wanted, f"no {path.name}" if path.parent.is_dir() else "no such folder")
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise InputError(
            str(path), "a list of modules", "something else", "perhaps it is not a model of sentence-transformers"
        )
    kinds = [str(m.get("type", "")).rpartition(".")[2] for m in modules]
    if kinds != list(MODULES):
        raise InputError(str(path), f"the modules {', '.join(MODULES)}", ", ".join(kinds) or "none", DO)
    paths = [str(m.get("path", "")) for m in modules]
    if any((Path(p).name != p and p) or p == ".." for p in paths):
        raise InputError(str(path), "folders beside it", ", ".join(paths), DO)
    return paths


def needed(repository: Repository) -> list[str]:
    """The files that GTR is read from, for `hub.find`: modules.json first."""
    if not repository.has(INDEX):
        return [INDEX]
    encoder, pooling, dense, _ = (f"{path}/" if path else "" for path in _modules(repository.path(INDEX)))
    files = [INDEX, *model_files(repository, encoder), f"{pooling}config.json", f"{dense}config.json"]
    return [*files, *weight_files(repository, dense), *([STATED] if encoder and repository.has(STATED) else [])]


def _check_pooling(folder: Path) -> None:
    """Check that pooling is the mean over tokens. sentence-transformers 6 states this by a word, older by flags."""
    path = folder / "config.json"
    data = _object(path)
    flags = {name for name, on in data.items() if name.startswith("pooling_mode_") and on}
    mode = data.get("pooling_mode", "mean" if flags == {"pooling_mode_mean_tokens"} else sorted(flags))
    if mode != "mean":
        raise InputError(str(path), "the mean over tokens", json.dumps(mode)[:60], DO)


def _length(path: Path, key: str) -> int | None:
    """A length of texts; None if none is stated, or one so large that the library means no limit."""
    length = _object(path).get(key) if path.exists() else None
    if length is None or (isinstance(length, int | float) and length >= NO_LIMIT):
        return None
    if not isinstance(length, int) or isinstance(length, bool) or not 2 <= length <= MAX_TOKENS:
        raise InputError(str(path), f"{key}: a whole number from 2 to {MAX_TOKENS}", brief(length))
    return length


def _max_tokens(folder: Path) -> int:
    """How long a text may be: the module's limit, else its tokenizer's, else GTR's own."""
    of_module = _length(folder / "sentence_bert_config.json", "max_seq_length")
    of_tokenizer = _length(folder / "tokenizer_config.json", "model_max_length")
    return of_module or of_tokenizer or DEFAULT_TOKENS


def _closes(tokenizer: Any) -> bool:
    """Does a tokenizer.json say that a text ends with </s>?"""
    try:
        return bool(tokenizer["post_processor"]["single"][-1]["SpecialToken"]["id"] == "</s>")
    except (TypeError, KeyError, IndexError):
        return False


def _tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of the folder, which must end a text with the end-of-sequence token, as that of T5 does."""
    text = find_tokenizer_json(folder)
    if text is None:
        raise InputError(str(folder), "tokenizer.json or spiece.model", "neither")
    if (folder / "tokenizer.json").exists():
        kind = _object(folder / "tokenizer_config.json").get("tokenizer_class", "")
        if not str(kind).startswith("T5") and not _closes(parse_json(text, f"{folder / 'tokenizer.json'}")):
            raise InputError(f"{folder / 'tokenizer.json'}", "a post-processor that closes with </s>", "another", DO)
    return Tokenizer(folder / "tokenizer.json", vocab_size, text)


def _encoder(stored: dict[str, Stored], t5: T5Config, dtype: str, where: Path) -> tuple[Array, Stack, Array]:
    """The encoder of T5 under published names; no tensor may be missing or left over."""
    table = [x for x in lines(HUGGING_FACE, t5) if x.ours.startswith(("embedding", "encoder.", "final_norm"))]
    table = one_embedding(table, stored)
    names = {x.ours: x for x in table if x.how != "copy"}

    def param(ours: str, shape: tuple[int, ...]) -> Array:
        theirs = names[ours].theirs
        if theirs not in stored:
            raise InputError(str(where), "all tensors of T5's encoder", f"no {theirs}")
        x = decode(theirs, stored.pop(theirs), dtype, names[ours].transposed)
        if x.shape != shape:
            raise InputError(f"{where}: {theirs}", f"{list(shape)}, in our layout", f"{list(x.shape)}")
        return x

    embedding = param("embedding", (t5.vocab_size, t5.d_model))
    stack = build_stack(t5, param, "encoder", t5.num_layers)
    norm = param("final_norm", (t5.d_model,))
    for copy in (x.theirs for x in table if x.how == "copy"):
        if copy in stored and not np.array_equal(decode(copy, stored.pop(copy), dtype), embedding):
            raise InputError(f"{where}: {copy}", f"a copy of {table[0].theirs}", "other numbers")
    if stored:
        raise InputError(str(where), "T5's encoder alone", f"also {min(stored)}")
    return embedding, stack, norm


def _dense(folder: Path, d: int, dtype: str) -> Array:
    path = folder / "config.json"
    data = _object(path)
    _only(path, "bias", data.get("bias", True), False)
    _only(path, "activation_function", data.get("activation_function"), "torch.nn.modules.linear.Identity")
    stored = open_checkpoint(folder)
    if set(stored) != {"linear.weight"}:
        raise InputError(str(folder), "linear.weight alone", ", ".join(sorted(stored)[:3]))
    w = decode("linear.weight", stored["linear.weight"], dtype, transposed=True)
    if w.ndim != 2 or w.shape[0] != d:
        raise InputError(f"{folder}: linear.weight", f"[e {d}]", f"{list(w.shape[::-1])}")
    return w


def _prepared(ops: Ops, name: str, x: Array) -> Array:
    """A weight in the layout of the backend: those of `linear` are packed."""
    return ops.pack(x, "float32") if name.rsplit(".", 1)[-1] in (*PRODUCTS, "dense") else ops.to_device(x)


def load(folder: str | Path, ops: Ops, dtype: str = "float32") -> GTR:
    """GTR from a folder of sentence-transformers.

    Args:
        dtype: "float32" or "float64".

    Raises:
        InputError: a file is missing or damaged; a module or setting is not GTR's; a tensor is missing, left over or
            of another shape.
    """
    folder = Path(folder)
    encoder, pooling, dense, _ = (folder / path for path in _modules(folder / INDEX))
    t5 = T5Config.from_json(read_json(encoder / "config.json"))
    for path in (folder / STATED, encoder / "sentence_bert_config.json"):
        data = _object(path) if path.exists() else {}
        _only(path, "default_prompt_name", data.get("default_prompt_name"), None)
        _only(path, "do_lower_case", data.get("do_lower_case", False), False)
    _check_pooling(pooling)
    most, tokenizer = _max_tokens(encoder), _tokenizer(encoder, t5.vocab_size)
    embedding, stack, norm = _encoder(dict(open_checkpoint(encoder)), t5, dtype, encoder)
    plain = Weights(embedding, stack, norm, _dense(dense, t5.d_model, dtype))
    facts = {
        "t5": asdict(t5),
        "max_tokens": most,
        "tokenizer": tokenizer.digest,
        "passage_text": passage_text(Passage("", "title", "text")),
        "weights": weights_digest(ops, leaves(plain)),
    }
    return GTR(ops, t5, map_named(partial(_prepared, ops), plain), tokenizer, most, digest_of(facts))
