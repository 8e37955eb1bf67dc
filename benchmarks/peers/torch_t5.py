"""transformers' T5 in PyTorch: its encoder, and its decoder in a greedy loop without generate's overhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from glimmer_ref.bench.measure import Job
from glimmer_ref.bench.ours import CHECKED
from glimmer_ref.bench.work import parse
from glimmer_ref.errors import Refused

from . import inputs


class Torch:
    """T5ForConditionalGeneration with sdpa attention."""

    def __init__(self, precision: str, folder: Path, threads: int) -> None:
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.dtype = getattr(torch, precision)
        self.model = transformers.T5ForConditionalGeneration.from_pretrained(
            folder, dtype=self.dtype, attn_implementation="sdpa"
        ).eval()
        self.end = self.model.config.eos_token_id

    def about(self) -> dict[str, Any]:
        """Versions, and the attention that runs."""
        return {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "attention": self.model.config._attn_implementation,
            "threads": torch.get_num_threads(),
        }

    def encode(self, ids: np.ndarray) -> torch.Tensor:
        """[b n] -> [b n d]; all of one length, so no mask."""
        return self.model.encoder(torch.from_numpy(ids)).last_hidden_state

    def decode(self, memory: torch.Tensor, steps: int) -> torch.Tensor:
        """Greedy ids [b steps] over memory [b n d], keys and values kept."""
        ids = torch.zeros((len(memory), 1), dtype=torch.long)
        past, written = EncoderDecoderCache(DynamicCache(), DynamicCache()), []
        for _ in range(steps):
            out = self.model.decoder(ids, encoder_hidden_states=memory, past_key_values=past, use_cache=True)
            ids = self.model.lm_head(out.last_hidden_state[:, -1:]).argmax(-1)
            written.append(ids)
        return torch.cat(written, 1)

    def job(self, work: str) -> Job:
        """The encoder, decoding, or both as FiD does: pairs as a batch, their states end to end, one decoder."""
        task = parse(work)
        if task.kind == "encoder":
            ids = inputs.pairs(task, self.end)
            return Job(lambda: _nothing(self.encode(ids)))
        if task.kind == "decode":
            memory = torch.from_numpy(inputs.memory(task, self.model.config.d_model)).to(self.dtype)
            return Job(lambda: _nothing(self.decode(memory, 1 + task.steps)), lambda: _nothing(self.decode(memory, 1)))
        if task.kind == "fid":
            ids = inputs.pairs(task, self.end)
            return Job(lambda: _nothing(self.answer(ids, task.b, task.steps)))
        raise Refused(work, "encoder, decode or fid of transformers", task.kind)

    def answer(self, ids: np.ndarray, questions: int, steps: int) -> torch.Tensor:
        """FiD: [b k n] ids -> [b steps] ids."""
        states = self.encode(ids)
        return self.decode(states.reshape(questions, -1, states.shape[-1]), steps)

    def check(self, path: str) -> list[str]:
        """The encoder's output and the ids that follow it."""
        ids = inputs.pairs(CHECKED, self.end)
        states = self.encode(ids)
        written = self.decode(states.reshape(1, -1, states.shape[-1]), CHECKED.steps)[0]
        encoder = states.float().numpy().reshape(-1, states.shape[-1])
        np.savez(path, encoder=encoder, ids=written.numpy())
        return ["encoder", "ids"]


def _nothing(_: Any) -> None:
    """The result is there; nobody wants it."""


def open_(size: str, precision: str, folder: Path, threads: int) -> Torch:
    """The contestant."""
    return Torch(precision, folder, threads)
