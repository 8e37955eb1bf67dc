"""What the options of glimmer-ref flops latency and serve say of hardware, and the question that serve asks."""

from __future__ import annotations

import argparse
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ..errors import InputError, brief

if TYPE_CHECKING:
    from ..costs.hardware import Efficiency, Hardware
    from ..costs.serving_report import Request


def positive(name: str, text: str) -> Fraction:
    """An exact number above 0.

    Raises:
        InputError: anything else.
    """
    from ..costs.parse import fraction

    number = fraction(text)
    if number is None or number <= 0:
        raise InputError(name, "a number above 0", brief(text, 40))
    return number


def counted(name: str, text: str) -> int:
    """A whole number of at least 1.

    Raises:
        InputError: anything else.
    """
    from ..costs.parse import count

    return count(name, text.strip())


def corpus_size(text: str) -> int:
    """The passages of a corpus, by their number or by the file that holds them.

    Raises:
        InputError: neither.
    """
    from ..data.inputs import read_passages

    if text.lower().endswith((".jsonl", ".json", ".gz")):
        return counted("--passages", str(sum(1 for _ in read_passages(text))))
    return counted("--passages", text)


def hardware(args: argparse.Namespace) -> Hardware:
    """A named accelerator, one of a file, this CPU as measured, or hardware with the given peaks."""
    from ..costs.hardware import Hardware, accelerator

    peak, rate = getattr(args, "peak_tflops", None), getattr(args, "bandwidth", None)
    if (peak is None) != (rate is None):
        raise InputError("hardware", "both --peak-tflops and --bandwidth", "only one of them", "give the other one too")
    if peak is not None and rate is not None:
        if args.hardware is not None:
            raise InputError("hardware", "either --hardware, or --peak-tflops and --bandwidth", "both", "leave one out")
        flops = {args.dtype or "bfloat16": int(positive("--peak-tflops", peak) * 10**12)}
        return Hardware("as stated", flops, int(positive("--bandwidth", rate) * 10**9), 0)
    if args.hardware == "cpu":
        from ..costs.this_cpu import this_cpu

        return this_cpu()
    return accelerator(args.hardware or "h100")


def dtype_of(args: argparse.Namespace, here: Hardware) -> str:
    """The dtype of --dtype, which the hardware must have; its first one without the option."""
    dtype = args.dtype or next(iter(here.flops))
    if dtype not in here.flops:
        raise InputError("--dtype", f"one of {', '.join(here.flops)} for {here.name}", repr(dtype))
    return str(dtype)


def known_dtype(name: str, text: str | None) -> None:
    """Check that a dtype is one that can be stored.

    Raises:
        InputError: another one.
    """
    from ..costs.storage import WIDTHS

    if text is not None and text not in WIDTHS:
        raise InputError(name, f"one of {', '.join(WIDTHS)}", repr(text))


def efficiency(text: str | None, default: Efficiency) -> Efficiency:
    """The shares of the peaks that are reached, "0.76,0.685" or one number for both."""
    from ..costs.hardware import Efficiency
    from ..costs.parse import proportion

    if text is None:
        return default
    shares = [proportion("--efficiency", word) for word in text.split(",")]
    if len(shares) > 2 or not all(shares):
        raise InputError("--efficiency", "SHARE, or SHARE,SHARE of peak and bandwidth, above 0", repr(text))
    return Efficiency(shares[0], shares[-1], "as stated")


def request(args: argparse.Namespace) -> Request:
    """What serve is asked."""
    from ..costs.hardware import CITED, shipped, store
    from ..costs.serving_report import Request

    for name in ("qps", "passages"):
        if getattr(args, name) is None:
            raise InputError(f"--{name}", "a number, such as --qps 100 --passages 21000000", "none")
    known_dtype("--dtype", args.dtype)
    known_dtype("--store", args.store)
    here = hardware(args)
    dtype = dtype_of(args, here)
    if args.storage_price is not None and args.price_per_hour is None:
        raise InputError("--storage-price", "--price-per-hour beside it", "none")
    prices: dict[str, Any] = {
        name: None if (text := getattr(args, name)) is None else positive(f"--{name.replace('_', '-')}", text)
        for name in ("price_per_hour", "storage_price")
    }
    return Request(
        rate=positive("--qps", args.qps),
        passages=corpus_size(args.passages),
        hardware=here,
        dtype=dtype,
        stored=args.store or dtype,
        devices=counted("--devices", args.devices),
        efficiency=efficiency(args.efficiency, here.efficiency or CITED),
        batch=None if args.batch is None else counted("--batch", args.batch),
        bound=None if args.latency is None else positive("--latency", args.latency),
        store=args.storage,
        stores={**shipped()[1], args.storage: store(args.storage)},
        months=positive("--months", args.months),
        price=prices["price_per_hour"],
        storage_price=prices["storage_price"],
    )
