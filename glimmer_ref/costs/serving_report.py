"""The report of what it takes to serve a corpus at a rate, for all systems side by side."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from . import roofline, serving
from .flops import SYSTEMS, Setting
from .hardware import Efficiency, Hardware, Store, group_of
from .reports import Report, header
from .serving import HOURS, UNLIMITED, Service
from .storage import SCALES, WIDTHS, corpus_bytes

NOTE = (
    "Each stage takes as long as its arithmetic or its memory traffic at the stated shares of the peaks, whichever is "
    "longer. Devices of a group share each weight matrix. Latency: until the batch is full, its passages are read by "
    "one unit of storage, and it is answered; search, text and network are left out. FiD stores token ids of 4 bytes. "
    "The index has one GTR vector of 768 float16 numbers for each passage and is searched exactly. Money counts whole "
    "accelerators; overtaking does not round. docs/costs.md has every formula."
)


class Request(NamedTuple):
    """A question of cost, as a person asks it.

    Args:
        rate: questions a second.
        passages: of the corpus.
        dtype: of weights and activations.
        stored: dtype of the stored memory.
        devices: of each group.
        batch: questions at once; None: the size that needs the fewest devices.
        bound: the most seconds that a question may take; None: no limit.
        store: where the memory lies, and all places to compare it with.
        months: time between two encodings of the corpus.
        price: of an accelerator and hour; None: accelerator-hours are counted instead of money.
        storage_price: of a TiB and month.
    """

    rate: Fraction
    passages: int
    hardware: Hardware
    dtype: str
    stored: str
    devices: int
    efficiency: Efficiency
    batch: int | None
    bound: Fraction | None
    store: str
    stores: Mapping[str, Store]
    months: Fraction
    price: Fraction | None
    storage_price: Fraction | None


def service_of(r: Request) -> Service:
    """The numbers of a request. Without a price, an accelerator-hour costs 1 and storage nothing."""
    return Service(
        r.rate,
        r.passages,
        group_of(r.hardware, r.dtype, r.efficiency, r.devices),
        r.hardware.memory or UNLIMITED,
        WIDTHS[r.dtype],
        WIDTHS[r.stored],
        SCALES[r.stored],
        r.stores[r.store].bandwidth,
        r.months,
        1 if r.price is None else r.price,
        0 if r.price is None or r.storage_price is None else r.storage_price,
    )


def _batch(s: Setting, system: str, x: Service, r: Request) -> tuple[int | None, str | None]:
    """The batch size, and why there is none."""
    if r.batch is None:
        batch = serving.best_batch(s, system, x, r.bound)
    else:
        late = r.bound is not None and serving.latency(s, system, x, r.batch) > r.bound
        too_large = sum(serving.device_bytes(s, system, x, r.batch).values()) > x.memory
        batch = None if late or too_large else r.batch
    if batch is not None:
        return batch, None
    least = sum(serving.device_bytes(s, system, x, r.batch or 1).values())
    if least > x.memory:
        return None, f"a batch of {r.batch or 1} does not fit into memory"
    return None, f"a batch of {r.batch} is too late" if r.batch else "every batch is too late"


def _answering(s: Setting, system: str, x: Service, batch: int) -> Report:
    """How a batch is answered."""
    stages = roofline.group_seconds(s, system, x.width, batch, x.group)
    seconds, groups = sum(stages.values()), serving.groups(s, system, x, batch)
    return {
        "groups": groups,
        "accelerators": groups * x.group.devices,
        "seconds_per_batch": float(seconds),
        "seconds_per_question": float(seconds / batch),
        "questions_per_second_and_group": float(batch / seconds),
        "busy": float(x.rate * seconds / batch / groups),
        "stages_seconds": {name: float(t) for name, t in stages.items()},
        "wait_seconds": float((batch - 1) * groups / x.rate),
        "latency_seconds": float(serving.latency(s, system, x, batch)),
    }


def _system(s: Setting, system: str, x: Service, r: Request) -> Report:
    batch, why = _batch(s, system, x, r)
    memory = serving.device_bytes(s, system, x, batch or r.batch or 1)
    each, hours = serving.question_bytes(s, system, x), serving.encoding_hours(s, system, x)
    answering = None if batch is None else _answering(s, system, x, batch)
    money = None if batch is None else serving.month(s, system, x, batch)
    return {
        "batch": batch,
        "why_not": why,
        "answering": answering,
        "device_bytes": {**{n: Fraction(b) for n, b in memory.items()}, "total": Fraction(sum(memory.values()))},
        "fits": sum(memory.values()) <= x.memory if r.hardware.memory else None,
        "stored_bytes": serving.stored_bytes(s, system, x),
        "read": {
            "passages_per_question": s.k,
            "bytes_per_question": each,
            "passages_per_second": Fraction(x.rate * s.k),
            "bytes_per_second": Fraction(x.rate * each),
            "seconds_per_batch": float(serving.read_seconds(s, system, x, batch or r.batch or 1)),
        },
        "encoding": {
            "macs": Fraction(serving.encoding_macs(s, system, x)),
            "accelerator_hours": float(hours),
            "hours_on_all": None if answering is None else float(hours / answering["accelerators"]),
            "price": None if r.price is None else float(hours * x.price),
        },
        "month": None if money is None else {n: float(m) for n, m in {**money, "total": sum(money.values())}.items()},
    }


def _stores(s: Setting, x: Service, r: Request) -> Report:
    """For each place of storage, how many units each system needs, and whether those that hold it are fast enough."""
    result: Report = {}
    for name, store in r.stores.items():
        systems = {}
        for y in SYSTEMS:
            for_bytes, for_bandwidth = serving.units(s, y, x, store.capacity or UNLIMITED, store.bandwidth)
            systems[y] = {
                "units_for_bytes": for_bytes,
                "units_for_bandwidth": for_bandwidth,
                "suffices": for_bytes >= for_bandwidth,
            }
        about = {"name": store.name, "unit_bytes": store.capacity or None, "unit_bytes_per_second": store.bandwidth}
        result[name] = {**about, "source": store.source, "systems": systems}
    return result


def _overtakes(s: Setting, x: Service, systems: Report) -> list[Report]:
    """From which corpus size, rate and time on a system is cheaper than another."""
    rows = []
    for y, other in (("lumen", "fid"), ("glimmer", "fid"), ("glimmer", "lumen")):
        sizes = [systems[name]["batch"] for name in (other, y)]
        if None in sizes:
            continue
        dear, cheap = (serving.line(s, name, x, n) for name, n in zip((other, y), sizes, strict=True))
        saves, stores = dear.question > cheap.question, cheap[1:] != dear[1:]
        at = serving.overtakes(dear, cheap, x) if saves and stores else dict.fromkeys(("passages", "rate", "months"))
        if at["months"] is not None and at["months"] <= 0:
            at["months"] = None
        row = {"system": y, "than": other, "cheaper": "never" if not saves else "below" if stores else "always"}
        rows.append({**row, **{n: None if v is None else float(v) for n, v in at.items()}})
    return rows


def _search(s: Setting, x: Service) -> Report:
    devices, seconds = serving.search_devices(s, x), serving.search_seconds(s, x)
    return {
        "index_bytes": serving.index_bytes(x.passages),
        "macs_per_question": Fraction(serving.search_macs(s, x.passages)),
        "batch": serving.SEARCH_BATCH,
        "accelerators": devices,
        "seconds_per_batch": float(seconds / devices),
        "busy": float(x.rate * seconds / serving.SEARCH_BATCH / devices),
    }


def serving_report(model: str, s: Setting, r: Request) -> Report:
    """All that a request asks, for FiD, LUMEN and GLIMMER.

    Raises:
        InputError: as `group_of`.
    """
    x = service_of(r)
    systems = {name: _system(s, name, x, r) for name in SYSTEMS}
    precisions = {dtype: corpus_bytes(s, width, r.passages, SCALES[dtype]) for dtype, width in WIDTHS.items()}
    return {
        **header(model, s),
        "rate": r.rate,
        "passages": r.passages,
        "hardware": {
            "name": r.hardware.name,
            "dtype": r.dtype,
            "flops_per_second": r.hardware.flops[r.dtype],
            "bytes_per_second": r.hardware.bandwidth,
            "memory_bytes": r.hardware.memory or None,
            "link_bytes_per_second": r.hardware.link or None,
            "source": r.hardware.source,
        },
        "devices": r.devices,
        "efficiency": {**r.efficiency._asdict()},
        "latency_bound_seconds": r.bound,
        "stored_as": r.stored,
        "months": r.months,
        "price_per_hour": r.price,
        "storage_price": r.storage_price,
        "hours_per_month": HOURS,
        "unit": "money" if r.price is not None else "accelerator-hours",
        "systems": systems,
        "stored_bytes_by_precision": precisions,
        "storage": r.store,
        "stores": _stores(s, x, r),
        "search": _search(s, x),
        "overtakes": _overtakes(s, x, systems),
        "note": NOTE,
    }
