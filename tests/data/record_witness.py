"""Records what transformers' T5 makes of random weights: run it where torch and transformers are at hand.

Writes witness.safetensors beside itself: the checkpoint (float32), the inputs, and the tensors of a run in float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers.models.t5 import modeling_t5

SHAPE: dict[str, Any] = {"vocab_size": 53, "d_model": 20, "d_kv": 6, "d_ff": 28, "num_heads": 3}
SHAPE |= {"num_layers": 4, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu"}
SHAPE |= {"tie_word_embeddings": False, "scale_decoder_outputs": False}


def exact_norm(self: Any, x: Any) -> Any:
    """Its RMSNorm makes the mean in float32 whatever the model's dtype; here it keeps it."""
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def main() -> None:
    torch.manual_seed(0)
    modeling_t5.T5LayerNorm.forward = exact_norm
    config = transformers.T5Config(**SHAPE, dropout_rate=0.0, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                weight.copy_(1 + 0.2 * torch.randn_like(weight))
            elif "relative_attention_bias" in name:
                weight.copy_(torch.randn_like(weight))
        model.lm_head.weight = torch.nn.Parameter(0.2 * torch.randn(53, 20))
        model.shared.weight.copy_(torch.randn(53, 20))
    weights = {f"weights.{n}": x.detach().numpy() for n, x in model.state_dict().items() if "embed_tokens" not in n}
    rng = np.random.default_rng(0)
    source, target = rng.integers(2, 53, 150), rng.integers(2, 53, 24)
    with torch.no_grad():
        out = model.double()(
            input_ids=torch.tensor(source)[None],
            decoder_input_ids=torch.tensor([0, *target[:-1]])[None],
            output_hidden_states=True,
        )
    run = {f"encoder.layer_{i}": x[0].numpy() for i, x in enumerate(out.encoder_hidden_states[1:-1])}
    run |= {f"decoder.layer_{i}": x[0].numpy() for i, x in enumerate(out.decoder_hidden_states[1:-1])}
    run |= {"encoder": out.encoder_last_hidden_state[0].numpy(), "logits": out.logits[0].numpy()}
    about = {"transformers": transformers.__version__, "torch": torch.__version__}
    about["config"] = json.dumps(config.to_dict())
    tensors = {n: np.ascontiguousarray(x) for n, x in {**weights, **run, "source": source, "target": target}.items()}
    save_file(tensors, Path(__file__).with_name("witness.safetensors"), about)


main()
