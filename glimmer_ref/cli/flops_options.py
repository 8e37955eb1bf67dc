"""The options of glimmer-ref flops, and which of its actions use them."""

from __future__ import annotations

import argparse

from . import options

PASSAGES_HELP = "passages of the corpus: their number, like 21000000, or the file that holds them"
COUNTS = {
    "k": "passages retrieved",
    "m": "passages that GLIMMER's decoder reads",
    "n_q": "tokens of the question",
    "n_p": "tokens of a passage",
    "n_t": "decoder steps",
}
SIZE_HELP = (
    "T5.1.1: small, base, large, xl, xxl (default xxl); or a published name of T5, T5.1.1, Flan-T5 or mT5, like t5-3b, "
    "google/flan-t5-xl"
)
HARDWARE_HELP = (
    "a100, h100 (default), h200, l4, rtx4090, tpu-v3, tpu-v4, tpu-v5e; FILE.toml or FILE.toml:NAME in the form of "
    "costs/hardware.toml; FILE.json of glimmer-ref bench --json; or cpu, which is measured in seconds"
)
SETTING = ("size", "config", "alpha", "beta", *COUNTS)
USES: dict[str | None, tuple[str, ...]] = {  # which of the shared options an action uses
    None: (*SETTING, "system", "mode", "plot"),
    "sweep": (*SETTING, "system", "mode", "plot"),
    "break-even": (*SETTING, "mode", "plot"),
    "figure2": ("plot",),
    "storage": (*SETTING, "plot"),
    "latency": (*SETTING, "system", "plot"),
    "serve": (*SETTING, "plot"),
    "rerankers": (*SETTING, "plot"),
    "published": ("plot",),
    "page": (),
}


def add_shared(parser: options.Parser, uses: tuple[str, ...]) -> None:
    if "size" in uses:
        parser.add_argument("--size", metavar="NAME", help=SIZE_HELP)
        parser.add_argument("--config", metavar="DIR", help="or the shapes of a config.json, ours or a T5's")
        parser.add_argument("--alpha", help="live proportion of the encoder, like 1/3")
        parser.add_argument("--beta", help="live-A's proportion of the live layers, like 1/4")
        for name, text in COUNTS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", help=text)
    if "system" in uses:
        parser.add_argument("--system", metavar="NAMES", help="all (default), or some of fid,lumen,glimmer")
    if "mode" in uses:
        parser.add_argument("--mode", help="printed, figure2, or full (default)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document, numbers as numbers")
    form.add_argument("--csv", action="store_true", help="comma-separated rows")
    if "plot" in uses:
        form.add_argument("--plot", metavar="FILE", help="plot it as FILE.png or FILE.svg")


def add_specific(parsers: dict[str, argparse.ArgumentParser]) -> None:
    """The options that only one action has."""

    def option(action: str, name: str, default: str | None, text: str, metavar: str | None = None) -> None:
        parsers[action].add_argument(name, default=default, help=text, metavar=metavar)

    option("sweep", "--over", None, "k=5:100:5, alpha=1/24,1/3, size=base,xxl, .. (both ends included)", "AXIS=..")
    option("break-even", "--against", None, "default fid:5,lumen:10, and both at the setting's k", "SYSTEM:K,..")
    option("storage", "--passages", None, PASSAGES_HELP, "N|FILE")
    for action in ("latency", "serve"):
        option(action, "--hardware", None, HARDWARE_HELP, "NAME")
        option(action, "--dtype", None, "bfloat16, float16, float32, int8 (default: the hardware's first)")
        option(action, "--devices", "1", "accelerators that answer a batch together, by tensor parallelism", "N")
        option(action, "--price-per-hour", None, "of one accelerator, in any currency", "X")
    option("latency", "--efficiency", None, "shares of peak and bandwidth that are reached (default 1,1)", "X[,X]")
    option("latency", "--peak-tflops", None, "of other hardware: 10^12 FLOP/s, two FLOPs for each multiply-add", "X")
    option("latency", "--bandwidth", None, "of other hardware: 10^9 bytes/s", "X")
    option("latency", "--batch", "1,8,64", "questions at once (default 1,8,64)", "N,N,..")
    option("serve", "--qps", None, "questions a second, like 100", "X")
    option("serve", "--passages", None, PASSAGES_HELP, "N|FILE")
    option(
        "serve", "--efficiency", None, "as measured or cited for the hardware (0.76,0.685 for accelerators)", "X[,X]"
    )
    option("serve", "--batch", None, "questions at once (default: what needs the fewest accelerators)", "N")
    option("serve", "--latency", None, "the most seconds that a question may take", "SECONDS")
    option("serve", "--store", None, "dtype of the stored memory (default: --dtype)", "DTYPE")
    option("serve", "--storage", "nvme", "where it lies: host, nvme (default), network, or FILE.toml:NAME", "NAME")
    option("serve", "--storage-price", None, "of a TiB and month, in the same currency", "X")
    option("serve", "--months", "12", "time until the corpus is encoded again, for example after training", "N")
    option("published", "--figure", None, "one of the paper's figures, 2 to 7", "N")
    option("published", "--table", None, "or one of its tables, 1 to 3", "N")
    parsers["page"].add_argument("out", metavar="OUT.html")
    option("rerankers", "--reranker-size", "base", "T5.1.1 shapes of the reranker (default base)", "SIZE")
    option("rerankers", "--depth", None, "layers of the cross-encoder (default: all)", "N")
    option("rerankers", "--late-depth", None, "live layers of late interaction (default: half)", "N")
