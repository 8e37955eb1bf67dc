"""transformers' T5 in PyTorch: its encoder, and its decoder in a greedy loop without generate's overhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from glimmer_ref.bench.measure import Job, RunDetails, Watch
from glimmer_ref.bench.ours import CHECKED
from glimmer_ref.bench.workload import parse
from glimmer_ref.errors import InputError

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
        """[b n] -> [b n d]; all sequences have one length, so no mask is needed."""
        return self.model.encoder(torch.from_numpy(ids)).last_hidden_state

    def decode(self, memory: torch.Tensor, steps: int) -> tuple[torch.Tensor, Watch]:
        """Greedy ids [b steps] over memory [b n d] with a KV cache; and a watch that began after the first step."""
        ids = torch.zeros((len(memory), 1), dtype=torch.long)
        past, written, watch = EncoderDecoderCache(DynamicCache(), DynamicCache()), [], Watch()
        for step in range(steps):
            out = self.model.decoder(ids, encoder_hidden_states=memory, past_key_values=past, use_cache=True)
            ids = self.model.lm_head(out.last_hidden_state[:, -1:]).argmax(-1)
            written.append(ids)
            watch = Watch() if step == 0 else watch
        return torch.cat(written, 1), watch

    def job(self, workload: str) -> Job:
        """The encoder; decoding without or with the first token; or all as FiD does: pairs as a batch, one decoder."""
        task = parse(workload)
        if task.kind not in ("encoder", "decode", "answer", "fid"):
            raise InputError(workload, "encoder, decode, answer or fid of transformers", task.kind)
        ids, memory = inputs.pairs(task, self.end), torch.empty(0)
        if task.kind in ("decode", "answer"):
            memory = torch.from_numpy(inputs.memory(task, self.model.config.d_model)).to(self.dtype)

        def encoder() -> None:
            self.encode(ids)

        def decode() -> RunDetails:
            return RunDetails(counted=self.decode(memory, 1 + task.steps)[1].read())

        def answer() -> None:
            self.decode(memory, task.steps)

        def fid() -> None:
            self.from_text(ids, task.b, task.steps)

        return {"encoder": encoder, "decode": decode, "answer": answer, "fid": fid}[task.kind]

    def from_text(self, ids: np.ndarray, questions: int, steps: int) -> torch.Tensor:
        """FiD: [b k n] ids -> [b steps] ids."""
        states = self.encode(ids)
        return self.decode(states.reshape(questions, -1, states.shape[-1]), steps)[0]

    def check(self, path: str) -> list[str]:
        """The encoder's output and the ids that follow it."""
        ids = inputs.pairs(CHECKED, self.end)
        states = self.encode(ids)
        written = self.decode(states.reshape(1, -1, states.shape[-1]), CHECKED.steps)[0][0]
        encoder = states.float().numpy().reshape(-1, states.shape[-1])
        np.savez(path, encoder=encoder, ids=written.numpy())
        return ["encoder", "ids"]


def open_(size: str, precision: str, folder: Path, threads: int) -> Torch:
    """The engine."""
    return Torch(precision, folder, threads)
