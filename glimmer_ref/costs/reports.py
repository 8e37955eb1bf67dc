"""Reports: the answers to cost questions as plain dictionaries, for the command line and for notebooks.

Numbers are exact (int or Fraction) unless they were measured; `as_json` converts them for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from math import fsum
from typing import Any

from . import roofline, storage
from .breakeven import BreakEven, against
from .flops import Number, Setting, online, parameters
from .hardware import FULL, Efficiency, Hardware, group_of
from .modes import MODES, plain, samples_per_tflop, total
from .published import figure2
from .rerankers import pipelines
from .sweep import sweep

Report = dict[str, Any]
NAMES = {"fid": "FiD", "lumen": "LUMEN", "glimmer": "GLIMMER"}
SHAPES = ("d", "hc", "f", "v", "matrices", "L", "decoder_layers", "embeddings", "others")

STORAGE_NOTE = (
    "Every passage has n_p tokens of d numbers; int8 has one scale of 4 bytes for each token. Indexes, texts and "
    "compression are left out. Questions to repay: after so many, encoding once has saved more multiply-adds than it "
    "cost, compared with FiD over the same k (mode full)."
)
LATENCY_NOTE = (
    "A lower bound: the stages follow each other, each at the peak FLOP/s or at the bandwidth, whichever is slower. "
    "Weights are read once for each stage and batch; the decoder reads its weights, keys and values in every step. "
    "Activations, launches, retrieval and reading memory from disk are left out."
)
FIGURE2_NOTE = (
    "The paper does not state 384 tokens a pair and 64 decoder steps. They are inferred: they are FiD-Light's lengths "
    "and the only ones that fit. One FLOP of the paper is one multiply-add (MAC). Terms with a + are for 48 + 336 "
    "tokens."
)


def as_json(x: Any) -> Any:
    """The report with every exact number in a form that JSON can hold."""
    if isinstance(x, Mapping):
        return {key: as_json(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [as_json(value) for value in x]
    return plain(x) if isinstance(x, Fraction) else x


def header(model: str, s: Setting) -> Report:
    """What every report begins with: the model's name, its parameters and the setting."""
    exact = {f"{name}_exact": str(getattr(s, name)) for name in ("alpha", "beta")}
    return {"model": model, "parameters": parameters(s), "setting": {**asdict(s), **exact}}


def describe(report: Mapping[str, Any], *leave_out: str) -> str:
    """The model and its setting in one line."""
    s = report["setting"]
    values = {name: s.get(f"{name}_exact") or s.get(name) for name in ("k", "m", "alpha", "beta", "n_q", "n_p", "n_t")}
    numbers = (f"{name}={value}" for name, value in values.items() if name not in leave_out and value is not None)
    return f"{report['model']}: {' '.join(numbers)}"


def heading(report: Mapping[str, Any], *leave_out: str) -> list[str]:
    """The model, its setting and its parameters, in lines of a table."""
    number = [f"{report['parameters']:,} parameters"] if "parameters" in report else []
    return [describe(report, *leave_out), *number]


def count_report(model: str, s: Setting, systems: Sequence[str], mode: str) -> Report:
    """The cost of one question by component, with a separate sum of the offline components."""
    rows: Report = {}
    for system in systems:
        macs = {name: Fraction(x) for name, x in MODES[mode].macs(s, system).items()}
        rows[system] = {
            "macs": {name: x for name, x in macs.items() if not name.startswith("memory")},
            "offline_macs": {name: x for name, x in macs.items() if name.startswith("memory")},
            "total_macs": Fraction(online(macs)),
            "total_flops": 2 * Fraction(online(macs)),
            "samples_per_tflop": samples_per_tflop(online(macs)),
        }
    return {**header(model, s), "mode": mode, "systems": rows, "note": MODES[mode].leaves_out}


def sweep_report(
    model: str, s: Setting, axis: str, values: Sequence[Number | str], systems: Sequence[str], mode: str
) -> Report:
    """The cost of one question along an axis."""
    rows, start = sweep(s, axis, values, systems, mode), header(model, s)
    for name in (axis, f"{axis}_exact", *(SHAPES if axis == "size" else ())):
        start["setting"].pop(name, None)
    if axis == "size":
        start.pop("parameters")
    return {**start, "mode": mode, "axis": axis, "rows": rows, "note": MODES[mode].leaves_out}


def _solved(b: BreakEven) -> Report:
    def text(x: Fraction | None) -> str | None:
        return None if x is None else str(x)

    return {
        "value": b.value,
        "exact": text(b.value),
        "possible": b.inside,
        "whole": b.whole,
        "whole_exact": text(b.whole),
    }


def break_even_report(model: str, s: Setting, opponents: Sequence[tuple[str, int]], mode: str) -> Report:
    """Where GLIMMER costs as much as LUMEN or FiD with k passages, solved for one variable at a time."""
    rows = [
        {
            "system": system,
            "k": k,
            "macs": Fraction(total(replace(s, k=k), system, mode)),
            "glimmer": {name: _solved(b) for name, b in against(s, system, k, mode).items()},
        }
        for system, k in opponents
    ]
    glimmer_macs = Fraction(total(s, "glimmer", mode))
    return {
        **header(model, s),
        "mode": mode,
        "glimmer_macs": glimmer_macs,
        "rows": rows,
        "note": MODES[mode].leaves_out,
    }


def figure2_report() -> Report:
    """Figure 2, and how far other ways of counting are from it."""
    pair, steps = figure2.solved_lengths()
    lengths = {"pair_tokens": figure2.PAIR, "n_t": figure2.STEPS}
    return {
        "model": "T5.1.1-xxl",
        "setting": {"alpha": Fraction(1, 3), "beta": Fraction(1, 4), "k": figure2.K, "m": 5, **lengths},
        "samples_per_tflop": figure2.samples(),
        "published": figure2.PUBLISHED,
        "solved_lengths": {"pair_tokens": pair, "n_t": steps},
        "macs": figure2.breakdown(),
        "note": FIGURE2_NOTE,
    }


def storage_report(model: str, s: Setting, passages: int | None = None) -> Report:
    """Bytes of the stored memory, and after how many questions it has paid off.

    Args:
        passages: the size of a corpus of your own, beside the paper's.
    """
    corpora = {} if passages is None else {f"{passages:,} passages": passages}
    corpora |= storage.CORPORA
    dtypes = {
        dtype: {
            "passage_bytes": storage.passage_bytes(s, width, storage.SCALES[dtype]),
            "read_bytes_per_question": storage.read_bytes(s, width, storage.SCALES[dtype]),
            "corpus_bytes": {
                name: storage.corpus_bytes(s, width, n, storage.SCALES[dtype]) for name, n in corpora.items()
            },
        }
        for dtype, width in storage.WIDTHS.items()
    }
    offline = {
        name: {
            "passages": n,
            "macs": Fraction(storage.offline_macs(s, n)),
            "repaid_after_questions": {y: storage.repaid_after(s, n, y) for y in ("lumen", "glimmer")},
        }
        for name, n in corpora.items()
    }
    return {**header(model, s), "dtypes": dtypes, "offline": offline, "note": STORAGE_NOTE}


def _latency(
    s: Setting, system: str, dtype: str, hardware: Hardware, group: roofline.Group, batch: int, price: float | None
) -> Report:
    """One system at one batch size."""
    width = storage.WIDTHS[dtype]
    taken = roofline.group_seconds(s, system, width, batch, group)
    stages: Report = {
        name: {
            "macs": Fraction(w.macs),
            "bytes": Fraction(w.bytes),
            "seconds": float(taken[name]),
            "bound_by": "arithmetic" if 2 * w.macs * group.bandwidth > w.bytes * group.flops else "bandwidth",
        }
        for name, w in roofline.work(s, system, width, batch).items()
    }
    each = fsum(stage["seconds"] for stage in stages.values()) / batch
    resident = int(roofline.resident_bytes(s, system, width, batch))
    return {
        "stages": stages,
        "seconds_per_question": each,
        "questions_per_second": 1 / each,
        "resident_bytes": resident,
        "fits": resident <= group.devices * hardware.memory if hardware.memory else None,
        "price_per_million_questions": None
        if price is None
        else roofline.price_per_million(each, price * float(group.devices)),
    }


def latency_report(
    model: str,
    s: Setting,
    systems: Sequence[str],
    hardware: Hardware,
    dtype: str,
    batches: Sequence[int],
    price: float | None = None,
    devices: int = 1,
    efficiency: Efficiency = FULL,
) -> Report:
    """Least seconds by stage, system and batch size; with a price per hour, also the price of a million questions.

    Args:
        price: of one device and hour.
        devices: of a group, which answers a batch together.
        efficiency: the shares of the peaks that are reached.
    """
    group = group_of(hardware, dtype, efficiency, devices)
    about = {
        "name": hardware.name,
        "dtype": dtype,
        "flops_per_second": hardware.flops[dtype],
        "bytes_per_second": hardware.bandwidth,
        "memory_bytes": hardware.memory or None,
        "devices": devices,
        "efficiency": {**efficiency._asdict()},
    }
    rows = [
        {"batch": n, "systems": {name: _latency(s, name, dtype, hardware, group, n, price) for name in systems}}
        for n in batches
    ]
    return {**header(model, s), "hardware": about, "price_per_hour": price, "batches": rows, "note": LATENCY_NOTE}


def rerankers_report(model: str, s: Setting, size: str, r: Setting, depth: int, late_depth: int) -> Report:
    """GLIMMER beside pipelines that have a separate reranker."""
    rows = [
        {
            "pipeline": name,
            "ranking_macs": Fraction(p.ranking),
            "reading_macs": Fraction(p.reading),
            "total_macs": Fraction(p.ranking + p.reading),
            "stored_bytes_per_passage_bfloat16": 2 * s.n_p * p.stored,
        }
        for name, p in pipelines(s, r, depth, late_depth).items()
    ]
    note = (
        f"The cross-encoder has {depth} layers of T5.1.1-{size} over each pair's text. Late interaction runs its last "
        f"{late_depth} and has the first {r.L - late_depth} offline. The reader reads m passages, k without ranking. "
        "GLIMMER's ranking is what it costs above LUMEN over m passages. Mode full; memory is stored in bfloat16."
    )
    about = {"size": size, "depth": depth, "late_depth": late_depth}
    return {**header(model, s), "reranker": about, "rows": rows, "note": note}
