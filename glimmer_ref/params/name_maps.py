"""Published names of the weights of T5 and our name for each; names that are missing or unknown are refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..config import GlimmerConfig, T5Config
from ..disk.kinds import MERGE
from ..errors import InputError
from .model import shapes
from .safetensors_io import Stored

# Each line: their name, how it becomes ours, and our name before the encoder is cut. {i} counts layers.
#   =             the same array
#   T             theirs is [out in] and ours [in out]
#   copy          a second copy of the same array: used if the first is missing, else both must be equal
#   maybe, maybe-T  as = and T, but optional: head and score
# Lines with wi are T5 1.0's, those with wi_0 and wi_1 are v1.1's.

# Source: names and shapes are those that transformers' T5ForConditionalGeneration saves.
HUGGING_FACE = """
shared.weight                                                         =       embedding
encoder.embed_tokens.weight                                           copy    embedding
decoder.embed_tokens.weight                                           copy    embedding
encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight  =       encoder.relative_attention_bias
encoder.block.{i}.layer.0.layer_norm.weight                           =       encoder.layer_{i}.attention.norm
encoder.block.{i}.layer.0.SelfAttention.q.weight                      T       encoder.layer_{i}.attention.q
encoder.block.{i}.layer.0.SelfAttention.k.weight                      T       encoder.layer_{i}.attention.k
encoder.block.{i}.layer.0.SelfAttention.v.weight                      T       encoder.layer_{i}.attention.v
encoder.block.{i}.layer.0.SelfAttention.o.weight                      T       encoder.layer_{i}.attention.o
encoder.block.{i}.layer.1.layer_norm.weight                           =       encoder.layer_{i}.feed_forward.norm
encoder.block.{i}.layer.1.DenseReluDense.wi.weight                    T       encoder.layer_{i}.feed_forward.wi_0
encoder.block.{i}.layer.1.DenseReluDense.wi_0.weight                  T       encoder.layer_{i}.feed_forward.wi_0
encoder.block.{i}.layer.1.DenseReluDense.wi_1.weight                  T       encoder.layer_{i}.feed_forward.wi_1
encoder.block.{i}.layer.1.DenseReluDense.wo.weight                    T       encoder.layer_{i}.feed_forward.wo
encoder.final_layer_norm.weight                                       =       final_norm
score_norm.weight                                                     maybe   score.norm
score.weight                                                          maybe-T score.weight
decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight  =       decoder.relative_attention_bias
decoder.block.{i}.layer.0.layer_norm.weight                           =       decoder.layer_{i}.self_attention.norm
decoder.block.{i}.layer.0.SelfAttention.q.weight                      T       decoder.layer_{i}.self_attention.q
decoder.block.{i}.layer.0.SelfAttention.k.weight                      T       decoder.layer_{i}.self_attention.k
decoder.block.{i}.layer.0.SelfAttention.v.weight                      T       decoder.layer_{i}.self_attention.v
decoder.block.{i}.layer.0.SelfAttention.o.weight                      T       decoder.layer_{i}.self_attention.o
decoder.block.{i}.layer.1.layer_norm.weight                           =       decoder.layer_{i}.cross_attention.norm
decoder.block.{i}.layer.1.EncDecAttention.q.weight                    T       decoder.layer_{i}.cross_attention.q
decoder.block.{i}.layer.1.EncDecAttention.k.weight                    T       decoder.layer_{i}.cross_attention.k
decoder.block.{i}.layer.1.EncDecAttention.v.weight                    T       decoder.layer_{i}.cross_attention.v
decoder.block.{i}.layer.1.EncDecAttention.o.weight                    T       decoder.layer_{i}.cross_attention.o
decoder.block.{i}.layer.2.layer_norm.weight                           =       decoder.layer_{i}.feed_forward.norm
decoder.block.{i}.layer.2.DenseReluDense.wi.weight                    T       decoder.layer_{i}.feed_forward.wi_0
decoder.block.{i}.layer.2.DenseReluDense.wi_0.weight                  T       decoder.layer_{i}.feed_forward.wi_0
decoder.block.{i}.layer.2.DenseReluDense.wi_1.weight                  T       decoder.layer_{i}.feed_forward.wi_1
decoder.block.{i}.layer.2.DenseReluDense.wo.weight                    T       decoder.layer_{i}.feed_forward.wo
decoder.final_layer_norm.weight                                       =       decoder.final_norm
lm_head.weight                                                        maybe   decoder.lm_head
"""

# Source: FiD's src/model.py wraps the encoder in an EncoderWrapper and each of its blocks in a CheckpointWrapper.
FID = HUGGING_FACE.replace("\nencoder.", "\nencoder.encoder.")
FID = re.sub(r"(encoder\.encoder\.block\.[^.]+\.)", r"\1module.", FID)

# Source: transformers' convert_t5x_checkpoint_to_pytorch.py, which transposes every kernel for [out in], and
# rel_embedding: t5x keeps [heads buckets], and kernels as [in out].
T5X = """
token_embedder/embedding                                              =       embedding
encoder/relpos_bias/rel_embedding                                     T       encoder.relative_attention_bias
encoder/layers_{i}/pre_attention_layer_norm/scale                     =       encoder.layer_{i}.attention.norm
encoder/layers_{i}/attention/query/kernel                             =       encoder.layer_{i}.attention.q
encoder/layers_{i}/attention/key/kernel                               =       encoder.layer_{i}.attention.k
encoder/layers_{i}/attention/value/kernel                             =       encoder.layer_{i}.attention.v
encoder/layers_{i}/attention/out/kernel                               =       encoder.layer_{i}.attention.o
encoder/layers_{i}/pre_mlp_layer_norm/scale                           =       encoder.layer_{i}.feed_forward.norm
encoder/layers_{i}/mlp/wi/kernel                                      =       encoder.layer_{i}.feed_forward.wi_0
encoder/layers_{i}/mlp/wi_0/kernel                                    =       encoder.layer_{i}.feed_forward.wi_0
encoder/layers_{i}/mlp/wi_1/kernel                                    =       encoder.layer_{i}.feed_forward.wi_1
encoder/layers_{i}/mlp/wo/kernel                                      =       encoder.layer_{i}.feed_forward.wo
encoder/encoder_norm/scale                                            =       final_norm
decoder/relpos_bias/rel_embedding                                     T       decoder.relative_attention_bias
decoder/layers_{i}/pre_self_attention_layer_norm/scale                =       decoder.layer_{i}.self_attention.norm
decoder/layers_{i}/self_attention/query/kernel                        =       decoder.layer_{i}.self_attention.q
decoder/layers_{i}/self_attention/key/kernel                          =       decoder.layer_{i}.self_attention.k
decoder/layers_{i}/self_attention/value/kernel                        =       decoder.layer_{i}.self_attention.v
decoder/layers_{i}/self_attention/out/kernel                          =       decoder.layer_{i}.self_attention.o
decoder/layers_{i}/pre_cross_attention_layer_norm/scale               =       decoder.layer_{i}.cross_attention.norm
decoder/layers_{i}/encoder_decoder_attention/query/kernel             =       decoder.layer_{i}.cross_attention.q
decoder/layers_{i}/encoder_decoder_attention/key/kernel               =       decoder.layer_{i}.cross_attention.k
decoder/layers_{i}/encoder_decoder_attention/value/kernel             =       decoder.layer_{i}.cross_attention.v
decoder/layers_{i}/encoder_decoder_attention/out/kernel               =       decoder.layer_{i}.cross_attention.o
decoder/layers_{i}/pre_mlp_layer_norm/scale                           =       decoder.layer_{i}.feed_forward.norm
decoder/layers_{i}/mlp/wi/kernel                                      =       decoder.layer_{i}.feed_forward.wi_0
decoder/layers_{i}/mlp/wi_0/kernel                                    =       decoder.layer_{i}.feed_forward.wi_0
decoder/layers_{i}/mlp/wi_1/kernel                                    =       decoder.layer_{i}.feed_forward.wi_1
decoder/layers_{i}/mlp/wo/kernel                                      =       decoder.layer_{i}.feed_forward.wo
decoder/decoder_norm/scale                                            =       decoder.final_norm
decoder/logits_dense/kernel                                           maybe-T decoder.lm_head
"""

NAMINGS = {"Hugging Face": HUGGING_FACE, "FiD": FID, "t5x": T5X, "t5x with dots": T5X.replace("/", ".")}


@dataclass(frozen=True)
class Line:
    """One line of a table, its {i} filled in."""

    theirs: str
    how: str
    ours: str

    @property
    def transposed(self) -> bool:
        """Is our array theirs with the axes swapped?"""
        return self.how.endswith("T")


def lines(table: str, t5: T5Config) -> Iterator[Line]:
    """A table, expanded for the layers and the feed-forward of a T5."""
    gated = t5.feed_forward_proj == "gated-gelu"
    for theirs, how, ours in (line.split() for line in table.strip().splitlines()):
        words = theirs.replace("/", ".").split(".")
        if ("wi" in words and gated) or (("wi_0" in words or "wi_1" in words) and not gated):
            continue
        layers = t5.num_decoder_layers if ours.startswith("decoder.") else t5.num_layers
        for i in range(layers if "{i}" in theirs else 1):
            yield Line(theirs.replace("{i}", str(i)), how, ours.replace("{i}", str(i)))


def split_encoder(name: str, config: GlimmerConfig) -> list[str]:
    """Our weights that start as one weight of the encoder of T5; other names are returned unchanged.

    The memory encoder gets the first layers and live the others. A separate question encoder starts as the memory
    encoder, a separate reranker as live-A. Each has its own copy of the position table (D3).
    """
    if not name.startswith("encoder."):
        return [name]
    parts = {"memory": (0, config.num_memory_layers), "live": (config.num_memory_layers, config.num_live_layers)}
    if config.question_encoder == "separate":
        parts["question"] = parts["memory"]
    if config.reranker == "separate":
        parts["reranker"] = (config.num_memory_layers, config.num_rerank_layers)
    at, rest = name.removeprefix("encoder.").split(".", 1) if ".layer_" in name else ("", name.split(".")[1])
    if not at:
        return [f"{part}.{rest}" for part in parts]
    layer = int(at.removeprefix("layer_"))
    return [
        f"{part}.layer_{layer - first}.{rest}"
        for part, (first, count) in parts.items()
        if first <= layer < first + count
    ]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


DEQUANTIZE = "load it with transformers, dequantize() it and save_pretrained in float32"
# Parts of names that only other formats use: what such a tensor is, and what to do about it.
MARKS = (
    (("lora_A", "lora_B", "lora_embedding_A"), "a PEFT adapter's", MERGE),
    (("SCB", "weight_format"), "int8 of bitsandbytes", DEQUANTIZE),
    (("absmax", "quant_map", "nested_absmax"), "4 bits of bitsandbytes", DEQUANTIZE),
    (("qweight", "qzeros", "g_idx"), "4 bits of GPTQ or AWQ", DEQUANTIZE),
    (("weight_scale", "weight_scale_inv", "input_scale", "weight_packed"), "quantized to 8 bits or fewer", DEQUANTIZE),
)


def _refuse_other_models(names: Mapping[str, Stored]) -> None:
    """Refuse models that look like T5 but compute another function or have another layout."""
    for name in names:
        for marks, what, do in MARKS:
            if not {*marks}.isdisjoint(name.split(".")):
                raise InputError(name, "plain weights of T5", f"a tensor that is {what}", do)
        if "EncDecAttention.relative_attention_bias" in name:
            raise InputError(
                name,
                "no position bias in cross-attention (D19)",
                "one",
                "a model trained with it, as old FiD was, is another function than T5; "
                "if yours was not (transformers 4 and later ignore it), remove the tensor first",
            )
        words = name.replace("/", ".").split(".")
        scanned = words[:2] in (["encoder", "encoder"], ["decoder", "decoder"]) and words[-1] != "weight"
        if scanned or "layers" in words:
            raise InputError(name, "one tensor a layer", "layers stacked in one", "unscan the t5x checkpoint first")


def _naming(config: GlimmerConfig, theirs: Mapping[str, Stored]) -> tuple[str, list[Line]]:
    """The naming that has most of the names, and its lines for these layers."""
    layers = config.t5.num_layers + config.t5.num_decoder_layers
    if layers > len(theirs):
        raise InputError("weights", f"tensors for {layers} layers", f"{len(theirs)} tensors")
    tables = {naming: list(lines(table, config.t5)) for naming, table in NAMINGS.items()}
    known = {naming: sum(line.theirs in theirs for line in table) for naming, table in tables.items()}
    best = max(known, key=known.__getitem__)
    if not known[best]:
        raise InputError("weights", f"names of T5 as in {', '.join(NAMINGS)}", _some(list(theirs)) or "no tensors")
    return best, tables[best]


def _same(a: Stored, b: Stored, transposed: bool = False) -> bool:
    """Are they equal bit for bit? NaN equals NaN here, so that a later check reports it."""
    x, y = a.raw, b.raw.T if transposed else b.raw
    bits = f"u{x.dtype.itemsize}"
    return a.dtype == b.dtype and x.shape == y.shape and bool(np.array_equal(x.view(bits), y.view(bits)))


def _check_names(naming: str, table: list[Line], theirs: Mapping[str, Stored], score_norm: bool) -> None:
    here = set(theirs)
    unknown = sorted(here - {line.theirs for line in table})
    if unknown:
        raise InputError(
            "weights", f"only T5's tensors under {naming} names, for this config", f"also {_some(unknown)}"
        )
    needed = [line.theirs for line in table if line.how in ("=", "T")]
    if score_norm and "score.weight" in here:
        needed.append("score_norm.weight")
    missing = [name for name in needed if name not in here]
    if missing:
        raise InputError("weights", f"all of T5's tensors under {naming} names", f"no {_some(missing)}")
    if "score_norm.weight" in here and not (score_norm and "score.weight" in here):
        raise InputError("score_norm.weight", "none without score.weight and score_norm in the config", "one")


def one_embedding(table: list[Line], theirs: Mapping[str, Stored]) -> list[Line]:
    """The table for a checkpoint that has the embedding only under the name of a copy or of a tied head.

    Source: transformers ties these names to the first one in the file; programs that save each array once keep any of
        them.
    """
    first = table[0]
    copies = [line for line in table if line.how == "copy" or (line.how, line.ours) == ("maybe", "decoder.lm_head")]
    found = next((line for line in (first, *copies) if line.theirs in theirs), first)
    rest = [line for line in table if line not in (first, found)]
    return [Line(found.theirs, "=", first.ours), *rest]


def plan(config: GlimmerConfig, theirs: Mapping[str, Stored]) -> dict[str, Line]:
    """Which tensor of the checkpoint each of our weights is made from.

    The head is left out if it is the embedding (D18), and the score if they have none.

    Returns:
        Our name -> the line of the table, whose field `theirs` is the name of a tensor in the argument `theirs`.

    Raises:
        InputError: a tensor is missing, left over or of another shape; a copy differs; layers are stacked; there is a
            position bias in cross-attention (D19). Names the tensor.
    """
    _refuse_other_models(theirs)
    naming, table = _naming(config, theirs)
    table = one_embedding(table, theirs)
    _check_names(naming, table, theirs, config.score_norm)
    wanted = shapes(config)
    embedding = theirs[table[0].theirs]
    result = {}
    for line in (line for line in table if line.theirs in theirs):
        stored, leaves = theirs[line.theirs], split_encoder(line.ours, config)
        shape = wanted[leaves[0]][:: -1 if line.transposed else 1]
        if stored.shape != shape:
            raise InputError(
                line.theirs,
                f"shape {list(shape)}",
                f"{list(stored.shape)}",
                "perhaps config.json belongs to another model",
            )
        copy = line.how == "copy" or line.ours == "decoder.lm_head"
        if copy and _same(embedding, stored, line.transposed):
            continue
        if line.how == "copy":
            raise InputError(line.theirs, f"the same values as {table[0].theirs}", "others", "T5 has one embedding")
        result.update({leaf: line for leaf in leaves})
    return result
