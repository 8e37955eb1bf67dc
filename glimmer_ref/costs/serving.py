"""What it takes to serve a corpus at a rate: accelerators, memory, storage, search, encoding, and money a month.

docs/costs.md has each formula with its assumptions. All are plain arithmetic, so that the page computes the same ones.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from . import roofline
from .flops import Number, Setting, encoder_macs, equal_lengths, layer_weights
from .parse import of_size
from .roofline import Group, larger
from .storage import corpus_bytes, offline_macs, read_bytes

HOURS = 730  # a month
UNLIMITED = 10**30  # bytes
ID_BYTES = 4  # FiD reads token ids in int32 instead of a memory
BATCHES = tuple(2**i for i in range(11))  # 1 to 1024
GTR_SIZE, INDEX_NUMBERS, INDEX_BYTES = "t5-base", 768, 2  # GTR-base (section 4.1): its vectors, in float16
SEARCH_BATCH = 64  # questions of one pass through the index


class Service(NamedTuple):
    """What is to be served, and on what.

    Args:
        rate: questions a second.
        passages: of the corpus.
        group: the devices that answer a batch together.
        memory: bytes of each device; `UNLIMITED` if unknown.
        width: bytes of each number in weights, activations, keys and values.
        stored: bytes of each number in the stored memory.
        scale: further bytes of each stored token.
        unit_bandwidth: bytes/s of one unit of storage.
        months: time between two encodings of the corpus.
        price: of an accelerator and hour.
        storage_price: of a TiB and month.
    """

    rate: Number
    passages: Number
    group: Group
    memory: Number
    width: Number
    stored: Number
    scale: Number
    unit_bandwidth: Number
    months: Number
    price: Number
    storage_price: Number


# ---- storage


def stored_bytes(s: Setting, system: str, x: Service) -> Number:
    """Bytes of the corpus as a system stores it: the memory, or in FiD the tokens."""
    if system == "fid":
        return x.passages * s.n_p * ID_BYTES
    return corpus_bytes(s, x.stored, x.passages, x.scale)


def question_bytes(s: Setting, system: str, x: Service) -> Number:
    """Stored bytes that one question reads: those of k passages."""
    return s.k * s.n_p * ID_BYTES if system == "fid" else read_bytes(s, x.stored, x.scale)


def read_seconds(s: Setting, system: str, x: Service, batch: Number) -> Number:
    """Seconds in which one unit of storage reads the passages of a batch."""
    return batch * question_bytes(s, system, x) / x.unit_bandwidth


def units(s: Setting, system: str, x: Service, capacity: Number, bandwidth: Number) -> tuple[Number, Number]:
    """Units of storage that the corpus fills, and units that give the bytes/s of all questions.

    Args:
        capacity: bytes of one unit; `UNLIMITED` if one is enough for any corpus.
        bandwidth: bytes/s of one unit.
    """
    return ceil(stored_bytes(s, system, x) / capacity), ceil(x.rate * question_bytes(s, system, x) / bandwidth)


# ---- answering


def device_bytes(s: Setting, system: str, x: Service, batch: Number) -> dict[str, Number]:
    """Bytes on each device: its shares of the weights and of the keys and values, and its activations."""
    devices = x.group.devices
    return {
        "weights": roofline.weight_bytes(s, system, x.width) / devices,
        "keys_values": roofline.cache_bytes(s, system, x.width, batch) / devices,
        "activations": roofline.activation_bytes(s, system, x.width, batch, devices),
    }


def groups(s: Setting, system: str, x: Service, batch: Number) -> Number:
    """Whole groups of devices that answer the rate in batches of this size, one batch after the other."""
    return ceil(x.rate * roofline.seconds(s, system, x.width, batch, x.group) / batch)


def latency(s: Setting, system: str, x: Service, batch: Number) -> Number:
    """Seconds of the question that waits longest: until its batch is full, its passages are read, and all is answered.

    Questions come at equal intervals, and every group gets its turn.
    """
    wait = (batch - 1) * groups(s, system, x, batch) / x.rate
    answered = roofline.seconds(s, system, x.width, batch, x.group)
    return wait + read_seconds(s, system, x, batch) + answered


def best_batch(s: Setting, system: str, x: Service, bound: Number | None = None) -> int | None:
    """The batch size, among powers of two, that needs the fewest devices; of several, the one with the least latency.

    Args:
        bound: the most seconds of latency.

    Returns:
        None if no batch size fits into memory and within the bound.
    """
    found = []
    for batch in BATCHES:
        if sum(device_bytes(s, system, x, batch).values()) > x.memory:
            break
        waits = latency(s, system, x, batch)
        if bound is None or waits <= bound:
            found.append((groups(s, system, x, batch), waits, batch))
    return min(found)[2] if found else None


# ---- search


def index_bytes(passages: Number) -> Number:
    """Bytes of an index of one GTR vector for each passage."""
    return passages * INDEX_NUMBERS * INDEX_BYTES


def search_macs(s: Setting, passages: Number) -> Number:
    """Multiply-adds of embedding one question and of its inner products with every passage."""
    gtr = of_size(GTR_SIZE)
    return sum(encoder_macs(gtr, "gtr", gtr.L, equal_lengths(1, s.n_q)).values()) + passages * INDEX_NUMBERS


def search_seconds(s: Setting, x: Service) -> Number:
    """Least seconds of one search by `SEARCH_BATCH` questions on one device; the index is read once."""
    gtr = of_size(GTR_SIZE)
    moved = index_bytes(x.passages) + gtr.L * layer_weights(gtr) * INDEX_BYTES
    work = roofline.Work(SEARCH_BATCH * search_macs(s, x.passages), moved)
    return roofline.stage_seconds(work, x.group.flops, x.group.bandwidth)


def search_devices(s: Setting, x: Service) -> Number:
    """Devices that hold the index and search it at the rate; each has a part of it."""
    busy = x.rate * search_seconds(s, x) / SEARCH_BATCH
    return ceil(larger(busy, index_bytes(x.passages) / x.memory))


# ---- encoding


def encoding_macs(s: Setting, system: str, x: Service) -> Number:
    """Multiply-adds of encoding the corpus once; FiD stores no encoding."""
    return 0 if system == "fid" else offline_macs(s, x.passages)


def encoding_hours(s: Setting, system: str, x: Service) -> Number:
    """Hours in which one device encodes the corpus, by its arithmetic."""
    return 2 * encoding_macs(s, system, x) / x.group.flops / 3600


# ---- money


def month(s: Setting, system: str, x: Service, batch: Number) -> dict[str, Number]:
    """Money a month, for whole devices; with the price 1 and the storage's price 0, accelerator-hours."""
    return {
        "answering": groups(s, system, x, batch) * x.group.devices * HOURS * x.price,
        "search": search_devices(s, x) * HOURS * x.price,
        "storage": stored_bytes(s, system, x) * x.storage_price / 2**40,
        "encoding": encoding_hours(s, system, x) * x.price / x.months,
    }


class Line(NamedTuple):
    """A month's money at rate r and N passages, not rounded: r question + N (passage + encoding / months).

    Args:
        question: of answering one question a second for a month.
        passage: of storing a passage for a month.
        encoding: of encoding a passage once.
    """

    question: Number
    passage: Number
    encoding: Number


def line(s: Setting, system: str, x: Service, batch: Number) -> Line:
    """The money of one question a second and of one passage."""
    one = x._replace(passages=1)
    each = roofline.seconds(s, system, x.width, batch, x.group) / batch
    return Line(
        each * x.group.devices * HOURS * x.price,
        stored_bytes(s, system, one) * x.storage_price / 2**40,
        encoding_hours(s, system, one) * x.price,
    )


def overtakes(dear: Line, cheap: Line, x: Service) -> dict[str, Number]:
    """Where a system that stores more costs as much as one that answers more slowly; all else is as in the service.

    Search is left out: it is the same for both.

    Args:
        dear: the money of the system whose questions are dear, such as FiD's.
        cheap: that of the other.

    Returns:
        passages: the corpus up to which the other one is cheaper.
        rate: the questions a second from which it is cheaper.
        months: how long an encoding must last; negative: it never pays.
    """
    saved, stored = dear.question - cheap.question, cheap.passage - dear.passage
    encoded = cheap.encoding - dear.encoding
    stored_per_month = stored + encoded / x.months
    return {
        "passages": x.rate * saved / stored_per_month,
        "rate": x.passages * stored_per_month / saved,
        "months": x.passages * encoded / (x.rate * saved - x.passages * stored),
    }
