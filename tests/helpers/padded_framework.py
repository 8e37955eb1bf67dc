"""A second implementation as frameworks have it: batches padded to one length, with masks, and mistakes by name.

It shares no code with the package. All arrays are [b n ..] with a mask [b n].
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Arrays = dict[str, Any]
BLOCKED = -1e9


def pad(ids: np.ndarray, lengths: np.ndarray, width: int = 0, left: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of ids as rows [b n], and their mask; padding is id 0."""
    width = width or int(max(lengths))
    rows, mask = np.zeros((len(lengths), width), np.int64), np.zeros((len(lengths), width), bool)
    for row, real, part in zip(rows, mask, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
        at = slice(width - len(part), width) if left else slice(0, len(part))
        row[at], real[at] = part, True
    return rows, mask


class Framework:
    """GLIMMER, LUMEN and FiD on padded batches.

    Args:
        mistake: one of the names that `mistaken` asks for, or "".
        width: the length to which sequences are padded by a mistake with padding; 0 is the longest.
    """

    def __init__(self, config: Arrays, weights: Arrays, mistake: str = "", width: int = 0) -> None:
        self.c, self.g, self.mistake, self.width = config, config["glimmer"], mistake, width
        self.w = {name: np.asarray(x, np.float64) for name, x in weights.items()}
        self.out: Arrays = {}

    def mistaken(self, *names: str) -> bool:
        return self.mistake in names

    def keep(self, name: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        self.out |= {name: x, f"{name}.mask": mask}
        return x

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["layer_norm_epsilon"]) * self.w[name]

    def bias(self, stack: str, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """[h i j] from positions."""
        table, far = self.w[f"{stack}.relative_attention_bias"], self.c["relative_attention_max_distance"]
        distance, half = keys[None, :] - queries[:, None], len(table) // 2
        decoder = stack == "decoder"
        size, behind = (2 * half, np.maximum(-distance, 0)) if decoder else (half, np.abs(distance))
        exact = size // 2
        grown = np.log(np.maximum(behind, exact) / exact) / math.log(far / exact) * (size - exact)
        whole = np.rint(grown) if self.mistaken("bucket_logarithms_rounded") else np.floor(grown)
        bucket = np.where(behind < exact, behind, np.minimum(exact + whole, size - 1)).astype(int)
        return table[bucket + np.where(distance > 0, half, 0) * (not decoder)].transpose(2, 0, 1)

    def projections(self, at: str, n: np.ndarray, memory: np.ndarray) -> list[np.ndarray]:
        names = ["q", "k", "v"]
        across = self.mistaken("keys_and_values_swapped_in_cross_attention") and "cross" in at
        if self.mistaken("keys_and_values_swapped") or across:
            names = ["q", "v", "k"]
        return [x @ self.w[f"{at}.{name}"] for x, name in zip((n, memory, memory), names, strict=True)]

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, added: np.ndarray) -> np.ndarray:
        """softmax(q k^T + added) v, where `added` [b h i j] has bias and mask."""
        if self.mistaken("attention_of_swapped_keys_and_values"):
            k, v = v, k
        h = self.c["num_heads"]
        qs, ks, vs = (x.reshape(*x.shape[:2], h, -1).transpose(0, 2, 1, 3) for x in (q, k, v))
        scores = qs @ ks.transpose(0, 1, 3, 2) + added
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ vs
        return mixed.transpose(0, 2, 1, 3).reshape(q.shape)

    def feed_forward(self, at: str, x: np.ndarray, name: str, mask: np.ndarray) -> np.ndarray:
        n = self.norm(x, f"{at}.norm")
        a = n @ self.w[f"{at}.wi_0"]
        if self.c["feed_forward_proj"] == "relu":
            hidden = np.maximum(a, 0)
        else:
            gelu = a / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
            hidden = gelu * (n @ self.w[f"{at}.wi_1"])
        self.keep(f"{name}.hidden", hidden, mask)
        return self.keep(f"{name}.out", x + hidden @ self.w[f"{at}.wo"], mask)

    def encode(
        self, stack: str, name: str, x: np.ndarray, mask: np.ndarray, layers: range, at: np.ndarray | None = None
    ) -> np.ndarray:
        """Encoder layers; positions `at` are those of the columns unless given."""
        at = np.arange(x.shape[1]) if at is None else at
        place = {"encoder.memory": "memory", "reranker": "live_a", "live_b": "live"}.get(name, name)
        seen = np.ones_like(mask) if self.mistaken(f"padding_attended_in_{place}") else mask
        seen = np.ones_like(mask) if self.mistaken("padding_attended_everywhere") else seen
        added = np.where(seen, 0, BLOCKED)[:, None, None, :]
        live = stack in ("live", "reranker")
        missing = self.mistaken("bias_missing_in_live") and stack == "live"
        missing |= self.mistaken(f"bias_missing_in_{'live_a' if name == 'reranker' else name}") and live
        if not missing:
            added = added + self.bias(stack, at, at)
        for i in layers:
            here, said = f"{stack}.layer_{i}", f"{name}.layer_{i}"
            q, k, v = self.projections(f"{here}.attention", *[self.norm(x, f"{here}.attention.norm")] * 2)
            for part, y in zip("qkv", (q, k, v), strict=True):
                self.keep(f"{said}.attention.{part}", y, mask)
            mixed = self.keep(f"{said}.attention.mixed", self.attend(q, k, v, added), mask)
            x = self.keep(f"{said}.attention.out", x + mixed @ self.w[f"{here}.attention.o"], mask)
            x = self.feed_forward(f"{here}.feed_forward", x, f"{said}.feed_forward", mask)
        return x

    def read(self, system: str, inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """The decoder's memory [1 n d] and its mask."""
        ids, lengths = inputs["question"], inputs["passages.lengths"]
        left = self.mistaken("passages_padded_left")
        passages, mask = pad(inputs["passages"], lengths, self.width if left else 0, left)
        padded = self.width if self.mistaken("question_padded") else len(ids)
        question, real = pad(ids, np.array([len(ids)]), padded)
        k, n, g = len(lengths), padded, self.g
        memory_layers, live = range(g["num_memory_layers"]), range(g["num_live_layers"])
        pair_mask = np.concatenate([np.repeat(real, k, 0), mask], 1)
        begin = n if g["positions"] == "packed" else g["positions"]
        at = np.concatenate([np.arange(n), begin + np.arange(passages.shape[1])])
        if system == "fid":
            x = np.concatenate([np.repeat(question, k, 0), passages], 1)
            x = self.w["embedding"][x]
            for name, layers in (("memory", memory_layers), ("live", live)):
                x = self.encode(name, f"encoder.{name}", x, pair_mask, layers, at)
            x = self.keep("encoder.out", self.norm(x, "final_norm"), pair_mask)
            return self.fuse(x, pair_mask, None, real)
        own = "memory" if g["question_encoder"] == "shared" else "question"
        q = self.encode(own, "question", self.w["embedding"][question], real, memory_layers)
        self.keep("question.out", q, real)
        p = self.encode("memory", "memory", self.w["embedding"][passages], mask, memory_layers)
        self.keep("memory.out", p, mask)
        x = self.keep("pairs", np.concatenate([np.repeat(q, k, 0), p], 1), pair_mask)
        name = "live"
        if system == "glimmer":
            shared, rerank = g["reranker"] == "shared", range(g["num_rerank_layers"])
            ranked = self.encode(*(("live", "live_a") if shared else ("reranker",) * 2), x, pair_mask, rerank, at)
            if shared:
                self.keep("live_a.out", ranked, pair_mask)
                name, x, live = "live_b", ranked, live[len(rerank) :]
            scores = self.score(ranked, pair_mask)
            # At beta = 0 all scores are equal, and a matrix product gives equal rows other last bits.
            chosen = np.argsort(-scores.round(12), kind="stable")[: g["m"]]
            self.out |= {"scores": scores, "selected": chosen}
            x, pair_mask = x[chosen], pair_mask[chosen]
        x = self.norm(self.encode("live", name, x, pair_mask, live, at), "final_norm")
        self.keep(f"{name}.out", x, pair_mask)
        return self.fuse(x, pair_mask, self.norm(q, "final_norm") if g["decoder_question"] else None, real)

    def score(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        pooled = x[:, -1] if self.mistaken("score_of_last_padded_token") else x[:, 0]
        if self.g["pool"] == "mean":
            counted = np.ones_like(mask) if self.mistaken("padding_in_the_mean") else mask
            pooled = (x * counted[..., None]).sum(1) / counted.sum(1)[:, None]
        if self.g["score_norm"]:
            pooled = self.norm(pooled, "score.norm")
        return pooled @ self.w["score.weight"][:, 0]

    def fuse(
        self, x: np.ndarray, mask: np.ndarray, q: np.ndarray | None, real: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        x, mask = x.reshape(1, -1, x.shape[-1]), mask.reshape(1, -1)
        if q is not None:
            x, mask = np.concatenate([q, x], 1), np.concatenate([real, mask], 1)
        return self.keep("decoder.memory", x, mask), mask

    def decode(self, memory: np.ndarray, mask: np.ndarray, target: np.ndarray) -> None:
        """Teacher forcing of one answer."""
        ids, t = np.concatenate([[self.c["decoder_start_token_id"]], target[:-1]]), len(target)
        x, at, one = self.w["embedding"][ids][None], np.arange(t), np.ones((1, t), bool)
        unmasked = self.mistaken("padding_in_decoder_memory", "padding_attended_everywhere")
        across = np.where(np.ones_like(mask) if unmasked else mask, 0, BLOCKED)[:, None, None, :]
        ahead, bias = np.where(at[None, :] > at[:, None], BLOCKED, 0)[None, None], self.bias("decoder", at, at)
        for i in range(self.c["num_decoder_layers"]):
            here, first = f"decoder.layer_{i}", self.mistaken("bias_in_first_decoder_layer_only")
            for part, added in (
                ("self_attention", ahead if first and i else ahead + bias),
                ("cross_attention", across),
            ):
                n, own = self.norm(x, f"{here}.{part}.norm"), part == "self_attention"
                q, k, v = self.projections(f"{here}.{part}", n, n if own else memory)
                self.keep(f"{here}.{part}.q", q, one)
                for name, y in (("k", k), ("v", v)):
                    self.keep(f"{here}.{part}.{name}" if own else f"cross.layer_{i}.{name}", y, one if own else mask)
                mixed = self.keep(f"{here}.{part}.mixed", self.attend(q, k, v, added), one)
                x = self.keep(f"{here}.{part}.out", x + mixed @ self.w[f"{here}.{part}.o"], one)
            x = self.feed_forward(f"{here}.feed_forward", x, f"{here}.feed_forward", one)
        x = self.norm(x, "decoder.final_norm")
        if self.c["scale_decoder_outputs"]:
            x = x * self.c["d_model"] ** -0.5
        logits = self.keep("decoder.logits", x @ self.w.get("decoder.lm_head", self.w["embedding"]).T, one)[0]
        top = logits.max(-1, keepdims=True)
        log_p = logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))
        self.out["decoder.log_likelihood"] = log_p[np.arange(t), target].sum(keepdims=True)

    def run(self, system: str, inputs: Arrays) -> Arrays:
        """All tensors with names of golden cases, and their masks."""
        self.decode(*self.read(system, inputs), inputs["target"])
        return self.out


def outputs(case: Any, mistake: str = "", width: int = 0) -> Arrays:
    """What a golden case expects, as far as the framework computes it."""
    framework = Framework(case.about["config"], case.read("weights"), mistake, width)
    made = framework.run(case.about["system"], case.read("inputs"))
    held = {entry["name"] for entry in case.about["tensors"]}
    return {name: x for name, x in made.items() if name.removesuffix(".mask") in held}
