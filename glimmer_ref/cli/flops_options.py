"""The options of glimmer-ref flops, and which of its actions use them."""

from __future__ import annotations

import argparse

from . import options

PASSAGES_HELP = "passages: their number, such as 21000000, or the file that contains them"
COUNTS = {
    "k": "passages retrieved (default 25)",
    "m": "passages that GLIMMER's decoder reads (default 5)",
    "n_q": "tokens of the question (default 48)",
    "n_p": "tokens of a passage (default 304)",
    "n_t": "decoder steps (default 64)",
}
SIZE_HELP = (
    "size of T5.1.1: small, base, large, xl, xxl (default xxl); or a published name of a T5, T5.1.1, Flan-T5 or mT5, "
    "such as t5-3b or google/flan-t5-xl"
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
        parser.add_argument(
            "--config",
            metavar="DIR",
            help="folder of a T5, or of a model, whose k, m, alpha and beta are then the defaults; instead of --size",
        )
        parser.add_argument("--alpha", metavar="ALPHA", help="live proportion of the encoder's layers (default 1/3)")
        parser.add_argument("--beta", metavar="BETA", help="live-A's proportion of the live layers (default 1/4)")
        for name, text in COUNTS.items():
            parser.add_argument(f"--{name.replace('_', '-')}", metavar="N", help=text)
    if "system" in uses:
        parser.add_argument("--system", metavar="NAMES", help="systems: all (default), or some of fid,lumen,glimmer")
    if "mode" in uses:
        parser.add_argument(
            "--mode",
            metavar="MODE",
            help="what is counted: full, all matrix products (default); printed, the paper's formulas; figure2, the "
            "parts in its Figure 2",
        )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print comma-separated rows")
    if "plot" in uses:
        form.add_argument("--plot", metavar="FILE", help=f"plot the result; {options.ENDINGS}")


def add_specific(parsers: dict[str, argparse.ArgumentParser]) -> None:
    """The options that only one action has."""

    def option(action: str, name: str, default: str | None, text: str, metavar: str | None = None) -> None:
        parsers[action].add_argument(name, default=default, help=text, metavar=metavar)

    option(
        "sweep",
        "--over",
        None,
        "setting and values: k=5:100:5 (both ends included), alpha=1/24,1/3, size=base,xxl",
        "AXIS=..",
    )
    option(
        "break-even",
        "--against",
        None,
        "systems and k (default fid:5,lumen:10, and both with GLIMMER's k)",
        "SYSTEM:K,..",
    )
    option("storage", "--passages", None, PASSAGES_HELP, "N|FILE")
    for action in ("latency", "serve"):
        option(action, "--hardware", None, HARDWARE_HELP, "NAME")
        option(
            action,
            "--dtype",
            None,
            "bfloat16, float16, float32 or int8 (default: the hardware's first)",
            "DTYPE",
        )
        option(
            action,
            "--devices",
            "1",
            "accelerators that answer a batch together (default 1)",
            "N",
        )
        option(action, "--price-per-hour", None, "price of an hour of one accelerator, in any currency", "X")
    option("latency", "--efficiency", None, "shares of peak and bandwidth that are reached (default 1,1)", "X[,X]")
    option("latency", "--peak-tflops", None, "peak of other hardware, in 10^12 FLOP/s", "X")
    option("latency", "--bandwidth", None, "bandwidth of other hardware, in 10^9 bytes/s", "X")
    option("latency", "--batch", "1,8,64", "numbers of questions that are answered together (default 1,8,64)", "N,N,..")
    option("serve", "--qps", None, "questions a second, such as 100", "X")
    option("serve", "--passages", None, PASSAGES_HELP, "N|FILE")
    option(
        "serve",
        "--efficiency",
        None,
        "shares of peak and bandwidth that are reached (default: as measured or cited for the hardware; 0.76,0.685 for "
        "accelerators)",
        "X[,X]",
    )
    option(
        "serve",
        "--batch",
        None,
        "questions that are answered together (default: as needs the fewest accelerators)",
        "N",
    )
    option("serve", "--latency", None, "largest number of seconds that a question may take", "SECONDS")
    option("serve", "--store", None, "number format of the stored memory (default: that of --dtype)", "DTYPE")
    option(
        "serve",
        "--storage",
        "nvme",
        "store of the memory: host, nvme (default), network, or FILE.toml:NAME",
        "NAME",
    )
    option("serve", "--storage-price", None, "price of a TiB for a month, in the same currency", "X")
    option(
        "serve",
        "--months",
        "12",
        "months until the passages are encoded again (default 12)",
        "N",
    )
    option("published", "--figure", None, "number of one of the paper's figures, 2 to 7", "N")
    option("published", "--table", None, "number of one of the paper's tables, 1 to 3", "N")
    parsers["page"].add_argument("out", metavar="OUT.html", help="file for the page")
    option("rerankers", "--reranker-size", "base", "T5.1.1 size of both rerankers (default base)", "SIZE")
    option("rerankers", "--depth", None, "number of layers of the cross-encoder (default: all)", "N")
    option("rerankers", "--late-depth", None, "live layers of the late-interaction reranker (default: half)", "N")
