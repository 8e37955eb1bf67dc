"""The same training step in PyTorch, written in the usual way: padded batches, masks, autograd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glimmer_ref.bench.measure import Job
from glimmer_ref.paper.t5 import relative_buckets
from glimmer_ref.params.model import leaves, random
from glimmer_ref.ragged import Ints, Tokens, offsets

from .batch import Batch, batch, config


def padded(tokens: Tokens) -> tuple[Tensor, Tensor]:
    """ids [b n], and True where they are not padding."""
    return rows_of(tokens.lengths, lambda ids: torch.from_numpy(tokens.ids.astype(np.int64))[ids])


def rows_of(lengths: Ints, made: Any) -> tuple[Tensor, Tensor]:
    there = torch.arange(int(lengths.max()))[None] < torch.from_numpy(lengths)[:, None]
    at = torch.from_numpy(offsets(lengths)[:-1])[:, None] + torch.arange(there.shape[1])[None]
    return made(torch.where(there, at, 0)), there


def hidden(there: Tensor) -> Tensor:
    """The mask that is added to scores: [b n] -> [b 1 1 n]."""
    return torch.where(there, 0.0, torch.finfo(torch.float32).min)[:, None, None]


class Net:
    """GLIMMER's layers on padded states."""

    def __init__(self, size: str) -> None:
        self.config = config(size)
        self.t5 = self.config.t5
        self.w = {n: torch.from_numpy(x).requires_grad_() for n, x in leaves(random(self.config, 0, "float32")).items()}

    def norm(self, name: str, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.t5.layer_norm_epsilon) * self.w[name]

    def bias(self, stack: str, n: int, both_ways: bool) -> Tensor:
        """[1 h n n] by relative position; a decoder's queries do not look ahead."""
        distance = np.arange(n)[None] - np.arange(n)[:, None]
        t5 = self.t5
        buckets = relative_buckets(
            distance, both_ways, t5.relative_attention_num_buckets, t5.relative_attention_max_distance
        )
        table = F.embedding(torch.from_numpy(buckets), self.w[f"{stack}.relative_attention_bias"])
        bias = table.permute(2, 0, 1)[None]
        if not both_ways:
            bias = bias.masked_fill(torch.from_numpy(distance > 0), torch.finfo(torch.float32).min)
        return bias

    def heads(self, x: Tensor, name: str) -> Tensor:
        return (x @ self.w[name]).view(*x.shape[:2], self.t5.num_heads, self.t5.d_kv).transpose(1, 2)

    def attention(self, at: str, x: Tensor, mask: Tensor, memory: Tensor | None = None) -> Tensor:
        n = self.norm(f"{at}.norm", x)
        m = n if memory is None else memory
        q, k, v = self.heads(n, f"{at}.q"), self.heads(m, f"{at}.k"), self.heads(m, f"{at}.v")
        mixed = F.softmax(q @ k.transpose(-1, -2) + mask, -1) @ v
        return x + mixed.transpose(1, 2).reshape(*x.shape[:2], -1) @ self.w[f"{at}.o"]

    def feed_forward(self, at: str, x: Tensor) -> Tensor:
        n = self.norm(f"{at}.norm", x)
        gate = F.gelu(n @ self.w[f"{at}.wi_0"], approximate="tanh") * (n @ self.w[f"{at}.wi_1"])
        return x + gate @ self.w[f"{at}.wo"]

    def encode(self, stack: str, layers: range, x: Tensor, there: Tensor) -> Tensor:
        mask = self.bias(stack, x.shape[1], True) + hidden(there)
        for i in layers:
            x = self.attention(f"{stack}.layer_{i}.attention", x, mask)
            x = self.feed_forward(f"{stack}.layer_{i}.feed_forward", x)
        return x

    def log_p(self, memory: Tensor, seen: Tensor, target: Tensor, there: Tensor) -> Tensor:
        """log p of each answer, teacher-forced: [b]."""
        x = F.embedding(F.pad(target, (1, 0))[:, :-1], self.w["embedding"])
        own, across = self.bias("decoder", target.shape[1], False), hidden(seen)
        for i in range(self.t5.num_decoder_layers):
            x = self.attention(f"decoder.layer_{i}.self_attention", x, own)
            x = self.attention(f"decoder.layer_{i}.cross_attention", x, across, memory)
            x = self.feed_forward(f"decoder.layer_{i}.feed_forward", x)
        logits = self.norm("decoder.final_norm", x) @ self.w["decoder.lm_head"].T
        chosen = F.log_softmax(logits, -1).gather(-1, target[..., None])[..., 0]
        return (chosen * there).sum(-1)


class Step:
    """A batch that is prepared once, and its loss."""

    def __init__(self, net: Net, b: Batch) -> None:
        self.net, self.b = net, b
        self.question, self.passages, self.target = padded(b.question), padded(b.passages), padded(b.target)
        owner = np.repeat(np.arange(len(b.question)), b.counts)
        self.owner, width = torch.from_numpy(owner), self.question[0].shape[1]
        lengths = b.question.lengths[owner] + b.passages.lengths
        place = torch.arange(int(lengths.max()))[None]
        of_q = torch.from_numpy(b.question.lengths[owner])[:, None]
        behind = len(b.question) * width + torch.arange(len(lengths))[:, None] * self.passages[0].shape[1] - of_q
        self.pairs_there = place < torch.from_numpy(lengths)[:, None]
        at = torch.where(place < of_q, self.owner[:, None] * width + place, behind + place)
        self.pairs_at = torch.where(self.pairs_there, at, 0)

    def after(self, q: Tensor, pairs: Tensor, there: Tensor, owner: Tensor, each: int) -> tuple[Tensor, Tensor]:
        """Live-B over the pairs, and the states that the decoder reads: the question, then `each` of the pairs."""
        net, c = self.net, self.net.config
        x = net.encode("live", range(c.num_rerank_layers, c.num_live_layers), pairs, there)
        x = net.norm("final_norm", x)
        memory = x.view(-1, each * x.shape[1], x.shape[2])
        question = net.norm("final_norm", q)[owner]
        return torch.cat([question, memory], 1), torch.cat([self.question[1][owner], there.view(len(memory), -1)], 1)

    def loss(self) -> Tensor:
        """L_LM + KL(p_rank || p_LM); no gradient flows through p_LM."""
        net, b, c = self.net, self.b, self.net.config
        (q_ids, q_there), (p_ids, p_there), (target, t_there) = self.question, self.passages, self.target
        embedding = net.w["embedding"]
        q = net.encode("memory", range(c.num_memory_layers), F.embedding(q_ids, embedding), q_there)
        p = net.encode("memory", range(c.num_memory_layers), F.embedding(p_ids, embedding), p_there)
        d = q.shape[-1]
        flat = torch.cat([q.reshape(-1, d), p.reshape(-1, d)])
        pairs = net.encode("live", range(c.num_rerank_layers), F.embedding(self.pairs_at, flat), self.pairs_there)
        scores = (net.norm("score.norm", pairs[:, 0]) @ net.w["score.weight"]).view(len(q), -1)
        best = scores.topk(b.m).indices + torch.arange(len(q))[:, None] * scores.shape[1]
        read = self.after(q, pairs[best.view(-1)], self.pairs_there[best.view(-1)], torch.arange(len(q)), b.m)
        lm = -net.log_p(*read, target, t_there).sum() / t_there.sum()
        with torch.no_grad():
            alone = self.after(q, pairs, self.pairs_there, self.owner, 1)
            log_p_lm = F.log_softmax(net.log_p(*alone, target[self.owner], t_there[self.owner]).view_as(scores), -1)
        rank = F.log_softmax(scores, -1)
        return lm + (rank.exp() * (rank - log_p_lm)).sum(-1).mean()

    def run(self) -> Tensor:
        for x in self.net.w.values():
            x.grad = None
        loss = self.loss()
        loss.backward()
        return loss


class Training:
    """Eager PyTorch, float32."""

    def __init__(self, size: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.net = Net(size)

    def about(self) -> dict[str, Any]:
        return {"torch": torch.__version__, "threads": torch.get_num_threads()}

    def job(self, workload: str) -> Job:
        step = Step(self.net, batch(workload, self.net.t5.vocab_size))

        def run() -> None:
            step.run()

        return run

    def check(self, path: str) -> list[str]:
        loss = Step(self.net, batch("step,b=2,k=4,m=2", self.net.t5.vocab_size)).run()
        gradients = {n: (torch.zeros_like(x) if x.grad is None else x.grad).numpy() for n, x in self.net.w.items()}
        np.savez(path, loss=np.float64(loss.item()), **gradients)
        return ["loss", *gradients]


def open_(size: str, precision: str, folder: Path, threads: int) -> Training:
    return Training(size, threads)
