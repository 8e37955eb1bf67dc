"""glimmer-ref convert: make a GLIMMER model of a T5 checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..terminal import say
from . import options


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "convert",
        help="cut a T5 checkpoint into memory, live-A and live-B",
        description="Cut the encoder of a T5 in Hugging Face's layout into memory encoder, live-A and live-B, "
        "add a score layer with random weights, and write the folder of a model. --alpha and --beta are needed unless "
        'config.json has a section "glimmer".',
    )
    parser.add_argument(
        "t5",
        metavar="T5_DIR",
        help=f"folder with config.json and model.safetensors or pytorch_model.bin, {options.NAMED}",
    )
    parser.add_argument("out", metavar="OUT", help="a new folder for the model")
    options.add_hub(parser)
    parser.add_argument("--alpha", metavar="ALPHA", help="live proportion of the encoder's layers, such as 1/3")
    parser.add_argument("--beta", metavar="BETA", help="live-A's proportion of the live layers, such as 1/4")
    parser.add_argument(
        "--seed", type=int, metavar="N", default=0, help="seed of the score layer's random weights (default 0)"
    )
    for name, what in (
        ("--tie", "yes: the output head is the embedding; no: it is lm_head (default: as the tensors show)"),
        (
            "--scale-decoder-outputs",
            "yes: the output head's input is scaled by d_model^-1/2; no: it is not (default: as config.json says)",
        ),
    ):
        parser.add_argument(name, choices=("yes", "no"), help=what)
    parser.set_defaults(run=run)


def _tokenizer_json(folder: Path) -> str | None:
    """The text of the folder's tokenizer, checked against the model before anything is written."""
    from ..config import T5Config
    from ..disk.read import read_json
    from ..text.sentencepiece import find_tokenizer_json
    from ..text.tokenizer import Tokenizer

    text = find_tokenizer_json(folder)
    if text is not None:
        name = "tokenizer.json" if (folder / "tokenizer.json").exists() else "spiece.model"
        Tokenizer(folder / name, T5Config.from_json(read_json(folder / "config.json")).vocab_size, text)
    return text


def run(args: argparse.Namespace) -> None:
    """Convert, and print the facts of the new model."""
    from ..params import checkpoint
    from ..params.head import HeadOptions

    answers = {None: None, "yes": True, "no": False}
    said = HeadOptions(answers[args.tie], answers[args.scale_decoder_outputs])
    t5 = options.find(args, args.t5)
    text = _tokenizer_json(t5)
    model = checkpoint.convert(t5, args.out, args.alpha, args.beta, args.seed, tokenizer_json=text, options=said)
    c = model.config
    say(
        f"{args.out}: {c.num_memory_layers} memory layers, {c.num_rerank_layers} live-A, "
        f"{c.num_live_layers - c.num_rerank_layers} live-B (alpha {c.alpha}, beta {c.beta})"
    )
