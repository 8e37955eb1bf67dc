"""The stored memory: the same states back, only what is asked for, and no wrong or half memory read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
from memories import (
    CONFIG,
    MODEL,
    NUMPY,
    PASSAGES,
    WORDS,
    Spy,
    edit,
    made_of,
    make_passages,
    quiet,
    refused,
    write_passages,
    write_tokenizer,
)
from paths import HELPERS
from safetensors import safe_open

from glimmer_ref.config import GlimmerConfig
from glimmer_ref.costs import storage
from glimmer_ref.costs.flops import setting_of
from glimmer_ref.data.inputs import Passage, passage_tokens
from glimmer_ref.disk.facts import digest_of
from glimmer_ref.memory import build as memory_build
from glimmer_ref.memory import encode, shard
from glimmer_ref.memory.build import build
from glimmer_ref.memory.manifest import build_facts, encoder_facts, metadata
from glimmer_ref.memory.quantized import QuantizedStates
from glimmer_ref.memory.store import Memory, memorize
from glimmer_ref.paper.lumen import encode_passages
from glimmer_ref.params.model import Model, leaves, map_named
from glimmer_ref.params.safetensors_io import Stored, map_tensors
from glimmer_ref.text.tokenizer import Tokenizer


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return write_tokenizer(tmp_path / "tokenizer.json")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_passages(tmp_path / "passages.jsonl")


@pytest.fixture
def stored(tmp_path: Path, tokenizer: Tokenizer, corpus: Path) -> Path:
    """A finished memory of 11 passages in 3 shards."""
    build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", shard_passages=4, show=quiet)
    return tmp_path / "memory"


class Stop(Exception):
    """What a test interrupts a build with."""


def stop_after(count: int) -> Any:
    """A progress bar that interrupts the build before item `count` of its encoding."""

    def show(items: Iterable[Any], total: int, what: str, done: int = 0, *more: Any) -> Iterator[Any]:
        for i, item in enumerate(items):
            if what == "memory" and i == count:
                raise Stop
            yield item

    return show


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def direct(tokenizer: Tokenizer, passage: Passage, model: Model = MODEL) -> np.ndarray:
    return encode_passages(NUMPY, model, passage_tokens(model.config, tokenizer, [passage])).states


# ---- what comes back


TAGS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}


# Measured, as the largest error over the largest value of a passage: 0, 3.7e-04, 3.6e-03, 3.9e-03 (half a unit in the
# last place is 2^-11 and 2^-8; int8's is 1/254). Not 0 for float32 where a BLAS adds up in another order for another
# batch.
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("float16", 5e-4), ("bfloat16", 4e-3), ("int8", 4e-3)]
)
def test_the_same_states_come_back(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, dtype: str, tolerance: float
) -> None:
    built = build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", dtype, shard_passages=4, show=quiet)
    assert built.encoded == len(built.memory) == 11
    states = built.memory.read(np.arange(11))
    assert states.states.dtype == np.float32
    for i, passage in enumerate(PASSAGES):
        wanted = direct(tokenizer, passage)
        assert states[i].shape == wanted.shape
        assert np.abs(states[i] - wanted).max() < tolerance * np.abs(wanted).max()
        if dtype != "float32":
            assert np.abs(states[i] - wanted).max() > tolerance / 100 * np.abs(wanted).max(), "stored narrow"
    with safe_open(tmp_path / "memory" / "shard-00001.safetensors", framework="numpy") as file:
        assert file.get_slice("tokens").get_dtype() == TAGS[dtype]
        assert ("scales" in file.keys()) == (dtype == "int8")  # noqa: SIM118, a file of tensors is no dict


def test_int8_is_off_by_at_most_half_a_scale() -> None:
    """Measured: 0.500001 of the scale at most, over 2 million values of most magnitudes that float32 has."""
    rng = np.random.default_rng(0)
    states = rng.standard_normal((4096, 512)) * np.exp(rng.uniform(-60, 85, (4096, 1)))
    states[1] = 0
    states[2], states[3] = np.float32(1e-45), -1e-39  # smaller than any normal number
    states[4, 1:], states[4, 0] = 0, -3.4e38
    states[5] *= 1e-3
    states[5, 7] = 1e3 * np.abs(states[5]).max()  # one value that drowns the others
    for x in (states.astype(np.float32), states):
        rows, back = QuantizedStates.of(x, "int8"), np.empty_like(x)
        rows.decode(back)
        assert rows.scales is not None and rows.finite().all()
        off = np.abs(back.astype(np.float64) - x) / rows.scales[:, None].astype(np.float64)
        assert 0.4999 < off.max() < 0.5 + 2e-5
        assert np.abs(rows.values.raw).max() == 127 and rows.values.raw.dtype == np.int8
        assert not back[1].any()
        np.testing.assert_allclose(np.abs(back).max(axis=1)[4:], np.abs(x).max(axis=1)[4:], rtol=1e-6)


def test_int8_takes_a_byte_a_number_and_four_a_token(tmp_path: Path, tokenizer: Tokenizer, corpus: Path) -> None:
    sizes = {}
    for dtype in ("int8", "float32"):
        memory = build(NUMPY, MODEL, tokenizer, corpus, tmp_path / dtype, dtype, show=quiet).memory
        tensors = map_tensors(tmp_path / dtype / "shard-00000.safetensors")
        sizes[dtype] = sum(x.raw.nbytes for name, x in tensors.items() if name in ("tokens", "scales"))
    setting = replace(setting_of(CONFIG), n_p=memory.info()["tokens"])
    for dtype, size in sizes.items():
        assert size == storage.passage_bytes(setting, storage.WIDTHS[dtype], storage.SCALES[dtype]), dtype


def test_rows_in_any_order_across_shards_with_repeats(stored: Path) -> None:
    memory = Memory.open(stored)
    rows = [10, 0, 5, 4, 5, 3]
    got, every = memory.read(rows), memory.read(range(11))
    assert [got[i].tolist() for i in range(6)] == [every[row].tolist() for row in rows]
    assert got.lengths.tolist() == [len(every[row]) for row in rows]
    assert got.positions.tolist() == [place for row in rows for place in range(len(every[row]))]
    got.states[:] = 0  # fresh, and not the file's
    assert memory.read(rows).states.any()
    assert memory.read([], "float64").states.shape == (0, CONFIG.t5.d_model)
    assert memory.read([2], "float64").states.dtype == np.float64


def test_strings_and_ids_come_back(stored: Path) -> None:
    memory = Memory.open(stored)
    assert list(memory.passages()) == PASSAGES
    assert [memory.passage(i) for i in (10, 3)] == [PASSAGES[10], PASSAGES[3]]
    assert memory.rows([PASSAGES[i].id for i in (7, 0, 7)]).tolist() == [7, 0, 7]
    assert memory.rows([]).tolist() == []
    for unknown in ("p99", "", "\ud800"):
        with refused("an id that it holds; got "):
            memory.rows(["p0ü", unknown])


def test_ids_of_equal_hash_are_told_apart(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "id_hash", lambda id: len(id) % 2)
    memory = build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", shard_passages=4, show=quiet).memory
    assert memory.rows([p.id for p in PASSAGES]).tolist() == list(range(11))
    with refused("an id that it holds"):
        memory.rows(["pq"])


@pytest.mark.parametrize("rows", [[0, 11], [-1], [2**40]])
def test_rows_out_of_range_are_refused(stored: Path, rows: list[int]) -> None:
    with refused("numbers from 0 to 10; got " + str(rows[-1])):
        Memory.open(stored).read(rows)


@pytest.mark.parametrize("rows", [[0.5], [[1]], [True], 3])
def test_rows_that_are_no_list_of_whole_numbers_are_refused(stored: Path, rows: Any) -> None:
    with refused("a list of whole numbers"):
        Memory.open(stored).read(rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_in_ram_as_the_model_computes(tokenizer: Tokenizer, dtype: str) -> None:
    model = models.model(NUMPY, CONFIG, dtype=dtype)
    memory = memorize(NUMPY, model, tokenizer, PASSAGES)
    got = memory.read([6, 2], dtype)
    for i, row in enumerate((6, 2)):
        wanted = direct(tokenizer, PASSAGES[row], model)
        assert np.abs(got[i] - wanted).max() < (1e-6 if dtype == "float32" else 1e-14) * np.abs(wanted).max()
    assert list(memory.passages()) == PASSAGES
    assert memory.rows(["p7ü"]).tolist() == [1]
    memory.check(NUMPY, model, tokenizer.digest)
    memory.verify()
    assert memory.info()["passages"] == 11


@pytest.mark.parametrize(
    ("passages", "why"),
    [
        ([], "passages: expected at least one; got none"),
        ([PASSAGES[0], PASSAGES[1], PASSAGES[0]], "'p0ü' again"),
        ([Passage("x", "", " ")], "passage 'x': expected some text"),
        ([Passage("x", "\udc00", "a")], "passage 'x': expected valid Unicode"),
    ],
)
def test_in_ram_refuses_what_a_file_would(tokenizer: Tokenizer, passages: list[Passage], why: str) -> None:
    with refused(why):
        memorize(NUMPY, MODEL, tokenizer, passages)


# ---- only what is asked for is read


def is_mapped(x: Any) -> bool:
    """Does the array lie in a file that is mapped to be read only?"""
    while isinstance(x, np.ndarray) and not isinstance(x, np.memmap):
        x = x.base
    return isinstance(x, np.memmap) and not x.flags.writeable


def test_a_look_up_reads_only_its_rows(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = models.config("1", passage_tokens=40)  # no memory layers: embedding 10,000 passages takes no time
    model, d = map_named(lambda _, x: NUMPY.to_device(x), models.random(settings, 0, "float32")), settings.t5.d_model
    corpus = write_passages(tmp_path / "many.jsonl", (Passage(f"n{i}", "", "a b c d e f " * 6) for i in range(10_000)))
    build(NUMPY, model, tokenizer, corpus, tmp_path / "memory", show=quiet)
    asked: dict[str, list[int]] = {}

    def spied(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
        tensors, told = real(path)
        assert all(is_mapped(x.raw) for x in tensors.values())
        return {
            name: Stored(x.dtype, Spy(x.raw, asked.setdefault(name, []))) if name in ("tokens", "strings") else x
            for name, x in tensors.items()
        }, told

    real = shard.map_file
    monkeypatch.setattr(shard, "map_file", spied)
    tracemalloc.start()
    memory = Memory.open(tmp_path / "memory")
    assert "tokens" not in asked, "no shard is opened before it is needed"
    rows = memory.rows([f"n{i * 397}" for i in range(25)])
    assert asked["tokens"] == [], "ids are found without states"
    assert len(asked["strings"]) == 25
    got = memory.read(rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.states.shape == (25 * 37, d)
    assert asked["tokens"] == [37 * d] * 25, "of each shard, the rows of one passage"
    assert peak < 700_000, "bytes (measured: 226,000), of 30 MB that are stored"


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells the advice that it was given")
def test_the_kernel_is_told_not_to_read_ahead(stored: Path) -> None:
    memory, told, name = Memory.open(stored), {}, ""
    memory.read([0, 10])
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.endswith(".safetensors"):
            name = Path(line.split()[-1]).name if str(stored) in line else ""
        elif name and line.startswith("VmFlags:"):
            told[name], name = "rr" in line.split(), ""  # "random read"
    assert told == {f"{n}.safetensors": True for n in ("index", "shard-00000", "shard-00002")}


# ---- a build that is interrupted


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from memories import MODEL, NUMPY
from glimmer_ref.memory.build import build
from glimmer_ref.text.tokenizer import Tokenizer
count = int(sys.argv[2])
folder = Path(sys.argv[1])
def show(items, total, what, done=0, *more):
    for i, item in enumerate(items):
        if what == "memory" and i == count: os._exit(9)
        yield item
replace = os.replace
def killed(source, target):
    if Path(target).name == sys.argv[3]: os._exit(9)
    replace(source, target)
os.replace = killed
build(NUMPY, MODEL, Tokenizer(folder / "tokenizer.json"), folder / "passages.jsonl", folder / "killed",
      dtype=sys.argv[4], shard_passages=4, show=show)
"""


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(
    ("count", "target", "finished"), [(10, "", 2), (99, "shard-00001.safetensors", 1), (99, "manifest.json", 3)]
)
def test_killed_and_resumed_gives_the_same_bytes(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, count: int, target: str, finished: int, dtype: str
) -> None:
    stored = tmp_path / "memory"
    build(NUMPY, MODEL, tokenizer, corpus, stored, dtype, shard_passages=4, show=quiet)
    code = SCRIPT.format(tests=str(HELPERS))
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(count), target, dtype], timeout=60)
    assert killed.returncode == 9
    folder = tmp_path / "killed"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    assert len(before) == finished
    with refused(f"a finished build; got an unfinished one of {finished} shards; run the same build again"):
        Memory.open(folder)
    built = build(NUMPY, MODEL, tokenizer, corpus, folder, dtype, shard_passages=4, show=quiet)
    assert built.encoded == max(0, 11 - 4 * finished)
    assert {n: (folder / n).stat().st_mtime_ns for n in before} == before, "finished shards are kept"
    assert contents(folder) == contents(stored), "nor is anything left over"


@pytest.mark.parametrize("count", range(12))
def test_interrupted_anywhere_and_resumed(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, stored: Path, count: int
) -> None:
    folder, told = tmp_path / "interrupted", []
    arguments = (NUMPY, MODEL, tokenizer, corpus, folder, "float32", 4)
    if count < 11:
        with pytest.raises(Stop):
            build(*arguments, stop_after(count))
        with refused("memory .*interrupted: expected a"):
            Memory.open(folder)

    def show(items: Iterable[Any], total: int, what: str, done: int = 0, *more: Any) -> Iterable[Any]:
        told.append((what, total, done))
        return items

    build(*arguments, show)
    kept = max(count - 1, 0) // 4 if count < 11 else 0
    assert [x for x in told if x[0] == "memory"] == [("memory", 11, 4 * kept)]
    assert told[0] == (("checksums", kept, 0) if kept else ("memory", 11, 0))
    assert contents(folder) == contents(stored)


def test_a_finished_memory_is_left_as_it_is(tokenizer: Tokenizer, corpus: Path, stored: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in stored.iterdir()}
    built = build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet)
    assert built.encoded == 0
    assert {p.name: p.stat().st_mtime_ns for p in stored.iterdir()} == before


@pytest.mark.parametrize("lost", ["shard-00000.safetensors", "index.safetensors", "manifest.json"])
def test_a_lost_file_is_made_again(tokenizer: Tokenizer, corpus: Path, stored: Path, lost: str) -> None:
    before = contents(stored)
    (stored / lost).unlink()
    with refused("run the same"):
        Memory.open(stored)
    built = build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet)
    assert built.encoded == {"s": 4, "i": 0, "m": 11}[lost[0]], "without a manifest nothing is known of any shard"
    assert contents(stored) == before


def test_making_again_does_not_hide_damage(tokenizer: Tokenizer, corpus: Path, stored: Path) -> None:
    flip(stored / "shard-00001.safetensors", -1)
    (stored / "shard-00000.safetensors").unlink()
    with refused("shard-00001.safetensors: expected the file that was built; got other bytes; remove this file"):
        build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet)


def test_a_finished_memory_that_is_damaged_is_not_called_finished(
    tokenizer: Tokenizer, corpus: Path, stored: Path
) -> None:
    for name in ("shard-00001.safetensors", "index.safetensors"):
        flip(stored / name, -1)
        with refused(f"{name}: expected the file that was built; got other bytes; remove this file"):
            build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet)
        flip(stored / name, -1)
    (stored / "shard-00001.safetensors").unlink()
    assert build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet).encoded == 4
    Memory.open(stored).verify(quiet)


def test_a_finished_shard_of_an_unfinished_memory_is_known_by_its_digest(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, stored: Path
) -> None:
    """A bit that flips before the build goes on was sealed, and then verified."""
    folder = tmp_path / "begun"
    with pytest.raises(Stop):
        build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=stop_after(9))
    flip(folder / "shard-00000.safetensors", -2)
    with refused("shard-00000.safetensors: expected the file that was built; got other bytes; remove this file"):
        build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=quiet)
    (folder / "shard-00000.safetensors").unlink()
    lines = (folder / "finished.jsonl").read_text().splitlines()
    (folder / "finished.jsonl").write_text(lines[0] + "\n" + lines[1][:40])  # a kill as its line was written
    assert build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=quiet).encoded == 11
    assert contents(folder) == contents(stored)


FEW = """
import resource, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
from pathlib import Path
from glimmer_ref.memory.store import Memory
memory = Memory.open(Path(sys.argv[2]))
rows = [i * 7 % 200 for i in range(200)]
states = memory.read(rows).states
for _ in range(2):
    assert memory.read(rows).states.tobytes() == states.tobytes()
assert len(list(memory.passages())) == 200
memory.verify(lambda items, *more: items)
"""


@pytest.mark.skipif(os.name != "posix", reason="descriptors are limited by setrlimit")
def test_more_shards_than_a_process_may_have_files_open(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = write_passages(tmp_path / "many.jsonl", make_passages(200))
    build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", shard_passages=1, show=quiet)
    command = [sys.executable, "-c", FEW, str(HELPERS), str(tmp_path / "memory")]
    subprocess.run(command, check=True, timeout=60)


def test_two_builds_at_once_are_refused(tmp_path: Path, tokenizer: Tokenizer, corpus: Path, stored: Path) -> None:
    folder = tmp_path / "both"

    def show(items: Iterable[Any], total: int, what: str, done: int = 0, *more: Any) -> Iterable[Any]:
        with refused("both: expected one writer at a time; got a second one"):
            build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=quiet)
        return items

    build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=show)
    assert contents(folder) == contents(stored)


def test_a_full_disk_keeps_the_finished_shards(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def full_after(files: int) -> Any:
        left = iter(range(files))

        def full(file: int) -> None:
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            fsync(file)

        return full

    # Two a shard: the file, and its line in finished.jsonl.
    for files, name, kept in (
        (1, "finished.jsonl", 2), (2, "shard-00001.safetensors", 2), (7, "manifest.json", 5)
    ):  # fmt: skip
        folder = tmp_path / name
        monkeypatch.setattr(os, "fsync", full_after(files))
        with refused(f"{name}: expected a place that can be written; got No space left on device"):
            build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=quiet)
        monkeypatch.setattr(os, "fsync", fsync)
        assert len(list(folder.iterdir())) == kept
        build(NUMPY, MODEL, tokenizer, corpus, folder, shard_passages=4, show=quiet)
        assert contents(folder) == contents(stored)


def test_passages_that_change_under_a_build_are_refused(tmp_path: Path, tokenizer: Tokenizer, corpus: Path) -> None:
    def show(items: Iterable[Any], total: int, what: str, done: int = 0, *more: Any) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == 6:
                write_passages(corpus, reversed(PASSAGES))
            yield item

    with refused("passages.jsonl: expected a file that stays as it is"):
        build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", shard_passages=4, show=show)
    assert {p.name for p in (tmp_path / "memory").iterdir()} == {"shard-00000.safetensors", "finished.jsonl"}


# ---- another build


def other_weights(name: str) -> Model:
    """The model with one weight changed."""
    hit = leaves(MODEL)[name]
    return map_named(lambda _, x: x + np.float32(1e-6) if x is hit else x, MODEL)


def changed(**more: Any) -> Model:
    return replace(MODEL, config=replace(CONFIG, **more))


MEMORY_ENCODERS = {
    "weights=": other_weights("memory.layer_2.feed_forward.wo"),
    "weights": other_weights("embedding"),
    "passage_tokens=21": changed(passage_tokens=21),
    "passage_eos=None": changed(passage_eos=False),
    "passage_format={text}": changed(passage_format="{text}"),
    "layer_norm_epsilon": changed(t5=replace(CONFIG.t5, layer_norm_epsilon=1e-5)),
    "relative_attention_max_distance=64": changed(t5=replace(CONFIG.t5, relative_attention_max_distance=64)),
    "num_memory_layers=4": models.model(NUMPY, models.config("1/3", "1/2", passage_tokens=20), dtype="float32"),
}


@pytest.mark.parametrize("what", MEMORY_ENCODERS)
def test_another_memory_encoder_is_refused(tokenizer: Tokenizer, corpus: Path, stored: Path, what: str) -> None:
    model, before = MEMORY_ENCODERS[what], contents(stored)
    with refused(f"memory .*one made by this model's memory encoder and tokenizer, {what}.*; got {what.split('=')[0]}"):
        Memory.open(stored).check(NUMPY, model, tokenizer.digest)
    with refused(f"a build of the same memory, {what}.*nothing was changed"):
        build(NUMPY, model, tokenizer, corpus, stored, shard_passages=4, show=quiet)
    assert contents(stored) == before
    assert digest_of(encoder_facts(NUMPY, model, tokenizer.digest)) != Memory.open(stored).info()["digest"]


def test_another_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer, stored: Path) -> None:
    other = write_tokenizer(tmp_path / "other.json", WORDS[::-1])
    with refused("tokenizer=.* got tokenizer="):
        Memory.open(stored).check(NUMPY, MODEL, other.digest)


@pytest.mark.parametrize(
    "model",
    [
        *(other_weights(n) for n in leaves(MODEL) if n.split(".")[0] not in ("embedding", "memory")),
        changed(num_rerank_layers=2, k=9, m=2, pool="mean", question_tokens=9, passage_offset=30),
        map_named(lambda _, x: x.astype(np.float64), MODEL),
    ],
)
def test_what_is_no_part_of_the_memory_may_change(tokenizer: Tokenizer, stored: Path, model: Model) -> None:
    Memory.open(stored).check(NUMPY, model, tokenizer.digest)


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("dtype=float16", {"dtype": "float16"}),
        ("shard_passages=3", {"shard_passages": 3}),
        ("passages=4", {"first": 4}),
    ],
)
def test_another_build_into_the_same_folder_is_refused(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, stored: Path, complete: bool, what: str, more: dict[str, Any]
) -> None:
    if not complete:
        (stored / "manifest.json").unlink()
    before = contents(stored)
    settings = {"shard_passages": 4, "show": quiet, **more}
    passages = write_passages(tmp_path / "first.jsonl", PASSAGES[: settings.pop("first", 11)])
    with refused(f"{what}; got {what.split('=')[0]}.*; nothing was changed; name another folder"):
        build(NUMPY, MODEL, tokenizer, passages, stored, **settings)
    assert contents(stored) == before


def test_a_foreign_folder_is_not_touched(tmp_path: Path, tokenizer: Tokenizer, corpus: Path) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    with refused("a folder of its own for the memory; got passages.jsonl"):
        build(NUMPY, MODEL, tokenizer, corpus, tmp_path, show=quiet)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    with refused("passages.jsonl: expected a folder that can be written; got a file of this name"):
        build(NUMPY, MODEL, tokenizer, corpus, corpus, show=quiet)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "shard-00000.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with refused("shard-00000.safetensors: expected a file that glimmer-ref memory build wrote"):
        build(NUMPY, MODEL, tokenizer, corpus, foreign, show=quiet)


def test_a_shard_under_another_name_is_refused(tokenizer: Tokenizer, corpus: Path, stored: Path) -> None:
    (stored / "shard-00000.safetensors").rename(stored / "shard-00001.safetensors")
    with refused("shard-00001.safetensors: expected a file that glimmer-ref memory build wrote; got another"):
        build(NUMPY, MODEL, tokenizer, corpus, stored, shard_passages=4, show=quiet)


# ---- bad input


def test_values_too_large_for_float16_are_refused_by_name(tmp_path: Path, tokenizer: Tokenizer, corpus: Path) -> None:
    hit = MODEL.embedding.copy()
    hit[WORDS.index("9") + 3] = 70_000
    model = replace(MODEL, embedding=hit)
    passages = [replace(p, text=p.text.replace("9", "8")) for p in PASSAGES]
    passages[5] = replace(passages[5], text="a 9")
    source = write_passages(tmp_path / "large.jsonl", passages)
    with refused("memory of passage 'p2ü': expected finite values in float16; got inf or nan; store it as bfloat16"):
        build(NUMPY, model, tokenizer, source, tmp_path / "memory", "float16", show=quiet)
    build(NUMPY, model, tokenizer, source, tmp_path / "wide", "bfloat16", show=quiet)
    hit[WORDS.index("9") + 3] = np.nan
    for dtype in ("bfloat16", "int8"):
        with refused(f"memory of passage 'p2ü': expected finite values in {dtype}; got inf or nan; check the weights"):
            build(NUMPY, model, tokenizer, source, tmp_path / "other", dtype, show=quiet)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "passages.jsonl: expected at least one passage; got none"),
        ('{"text": "a"}\n{"text": 3}\n', 'line 2: expected a key "text" with a string'),
        ('{"text": "a"}\n\n{"text": " "}\n', "line 3: expected a text that is not empty"),
        ('{"id": "x", "text": "a"}\n{"id": "x", "text": "b"}\n', "line 2: expected ids that occur once; got 'x' again"),
        ('{"text": "a"}\n{"id": "q\\ud800", "text": "b"}\n', "valid Unicode"),
        ('{"text": ', "line 1: expected one JSON object"),
    ],
)
def test_broken_passages_are_refused_before_anything_is_written(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, text: str, why: str
) -> None:
    corpus.write_text(text)
    with refused(why):
        build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", show=quiet)
    assert not (tmp_path / "memory").exists()


def test_passages_that_cannot_be_read_twice_are_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with refused("none.jsonl: expected a readable file; got no such file"):
        build(NUMPY, MODEL, tokenizer, tmp_path / "none.jsonl", tmp_path / "memory", show=quiet)
    os.mkfifo(tmp_path / "pipe")
    with refused("pipe: expected a regular file, since it is read twice"):
        build(NUMPY, MODEL, tokenizer, tmp_path / "pipe", tmp_path / "memory", show=quiet)


def test_a_passage_without_tokens_is_refused_by_id(tmp_path: Path, tokenizer: Tokenizer) -> None:
    settings = changed(passage_eos=False, passage_format="{text}")
    words = json.loads(tokenizer.json)
    words["normalizer"] = {"type": "Replace", "pattern": {"String": "q"}, "content": ""}
    (tmp_path / "deaf.json").write_text(json.dumps(words))
    source = write_passages(tmp_path / "p.jsonl", [Passage("x", "", "a"), Passage("y", "", "q")])
    with refused("passage 'y': expected a text that gives at least one token; got none"):
        build(NUMPY, settings, Tokenizer(tmp_path / "deaf.json"), source, tmp_path / "memory", show=quiet)


@pytest.mark.parametrize(("more", "why"), [({"dtype": "int4"}, "one of float32, "), ({"shard_passages": 0}, "least 1")])
def test_bad_settings_are_refused(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, more: dict[str, Any], why: str
) -> None:
    with refused(why):
        build(NUMPY, MODEL, tokenizer, corpus, tmp_path / "memory", show=quiet, **more)


# ---- damage


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"build__version": 2}, "manifest.json: expected version 1; got version 2; build the memory again"),
        ({"build__version": "1"}, "version: expected a whole number"),
        ({"build__dtype": "int4"}, "dtype: expected one of float32, float16, bfloat16, int8; got 'int4'"),
        ({"build__passages": 10**15}, "files: expected 250000000000000 shards and an index; got 4 files"),
        ({"build__passages": 9.0}, "passages: expected a whole number of at least 1; got 9.0"),
        ({"build__passages": 12}, "of shape"),
        ({"build__shard_passages": 0}, "shard_passages: expected a whole number of at least 1; got 0"),
        ({"build__encoder": {"d_model": 20}}, "num_memory_layers: expected a whole number"),
        ({"build": []}, "build: expected an object"),
        ({"tokens": None}, "tokens: expected a whole number"),
        ({"files": {}}, "3 shards and an index; got 0 files"),
        ({"files__index.safetensors": {"bytes": 9, "sha256": ""}}, "index.safetensors: expected 9 bytes; got "),
        ({"files__index.safetensors": 5}, "bytes: expected a whole number of at least 1; got None"),
        ({"more": 1}, "manifest.json: expected the fields of a glimmer-ref memory; got "),
        (
            {"build__passages_sha256": "0"},
            "s build, passages_sha256=0; got passages_sha256=[0-9a-f]{2}",
        ),
    ],
)
def test_a_damaged_manifest_is_refused(stored: Path, changes: dict[str, Any], why: str) -> None:
    edit(stored, **changes)
    with refused(why):
        Memory.open(stored)


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(stored: Path, text: bytes) -> None:
    (stored / "manifest.json").write_bytes(text)
    with refused("manifest.json"):
        Memory.open(stored)


def test_a_missing_or_truncated_shard_is_refused_on_opening(stored: Path) -> None:
    path = stored / "shard-00002.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with refused(
        f"shard-00002.safetensors: expected {len(data)} bytes; got {len(data) - 4} bytes; remove this file, then run"
    ):
        Memory.open(stored)
    path.unlink()
    with refused(
        f"shard-00002.safetensors: expected {len(data)} bytes; got no such file or folder; run the same build"
    ):
        Memory.open(stored)


def test_shards_that_do_not_fit_are_refused_when_read(stored: Path) -> None:
    last, size = stored / "shard-00002.safetensors", (stored / "shard-00000.safetensors").stat().st_size
    (stored / "shard-00000.safetensors").write_bytes(last.read_bytes())
    edit(stored, **{"files__shard-00000.safetensors": {"bytes": last.stat().st_size, "sha256": ""}})
    memory = Memory.open(stored)
    assert size != last.stat().st_size
    assert memory.read([10]).states.size
    with refused(r"shard-00000.safetensors: offsets: expected I64 of shape \[5\]; got I64 of shape \[4\]"):
        memory.read([0])


@pytest.mark.parametrize(("name", "value"), [("offsets", 10**6), ("string_offsets", -1)])
def test_offsets_that_do_not_rise_are_refused(stored: Path, name: str, value: int) -> None:
    path = stored / "shard-00000.safetensors"
    tensors = dict(map_tensors(path))
    bad = tensors[name].raw.copy()
    bad[1] = value
    memory_build.write_tensors(path, {**tensors, name: bad}, metadata(path.name, made_of(path.parent)))
    edit(stored, **{"files__shard-00000.safetensors": {"bytes": path.stat().st_size, "sha256": ""}})
    with refused(f"shard-00000.safetensors: {name}: expected offsets that rise from 0"):
        Memory.open(stored).read([0])


@pytest.mark.parametrize(
    ("scales", "why"),
    [
        (None, r"scales: expected F32 of shape \[\d+\]; got none"),
        (lambda x: x[:-1], r"scales: expected F32 of shape \[\d+\]; got F32 of shape"),
        (lambda x: x.astype(np.float64), r"scales: expected F32 of shape \[\d+\]; got F64"),
        (lambda x: 0 * x, "scales: expected positive numbers; got others; perhaps the file is damaged"),
        (lambda x: -x, "scales: expected positive numbers"),
        (lambda x: x * np.float32(np.nan), "scales: expected positive numbers"),
        (lambda x: x * np.float32(np.inf), "scales: expected positive numbers"),
    ],
)
def test_damaged_or_missing_scales_are_refused(
    tmp_path: Path, tokenizer: Tokenizer, corpus: Path, scales: Any, why: str
) -> None:
    folder = tmp_path / "memory"
    build(NUMPY, MODEL, tokenizer, corpus, folder, "int8", shard_passages=4, show=quiet)
    path = folder / "shard-00000.safetensors"
    tensors: dict[str, Any] = dict(map_tensors(path))
    changed = tensors.pop("scales").raw
    if scales:
        tensors["scales"] = scales(changed)
    memory_build.write_tensors(path, tensors, metadata(path.name, made_of(path.parent)))
    edit(folder, **{"files__shard-00000.safetensors": {"bytes": path.stat().st_size, "sha256": ""}})
    with refused(f"shard-00000.safetensors: {why}"):
        Memory.open(folder).read([0])
    assert Memory.open(folder).read([10]).states.size, "the others can still be read"


def test_verify_finds_a_flipped_bit(stored: Path) -> None:
    memory = Memory.open(stored)
    memory.verify(quiet)
    flip(stored / "shard-00001.safetensors", -3)
    with refused(
        "shard-00001.safetensors: expected the file that was built; got other bytes; remove this file, then run"
    ):
        memory.verify(quiet)


def test_no_memory_is_refused(tmp_path: Path) -> None:
    for folder, why in ((tmp_path / "none", "no such folder"), (tmp_path, "no manifest.json")):
        with refused(f"memory {folder}: expected a folder that glimmer-ref memory build made; got {why}"):
            Memory.open(folder)


# ---- what it says of itself


def test_info(stored: Path) -> None:
    info = Memory.open(stored).info()
    assert json.loads(json.dumps(info)) == info
    assert info["passages"] == 11
    assert info["tokens"] == sum(len(Memory.open(stored).read([i]).states) for i in range(11))
    assert (info["dtype"], info["d_model"], info["num_memory_layers"], info["shards"]) == ("float32", 20, 3, 3)
    assert info["bytes_on_disk"] == sum(p.stat().st_size for p in stored.iterdir() if p.name != "manifest.json")


def test_batches_hold_every_passage_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BATCH_TOKENS", 25)
    batches = list(encode._batches(CONFIG, tokenizer, PASSAGES))
    assert [p for batch, _ in batches for p in batch] == PASSAGES
    assert len(batches) > 3
    assert all(tokens.ids.size <= 25 or len(tokens) == 1 for _, tokens in batches)
    longest = GlimmerConfig.from_proportions(models.T5, "1/2", "1/3", passage_tokens=99)
    assert len(list(encode._batches(longest, tokenizer, [Passage("x", "", "a " * 60)] * 2))) == 2


def test_a_header_is_the_same_whatever_the_order_of_the_facts() -> None:
    facts = {"version": 1, "encoder": {"d_model": 4, "alpha": "1/2"}}
    expected = {"build": '{"encoder": {"alpha": "1/2", "d_model": 4}, "version": 1}', "file": "index.safetensors"}
    assert metadata("index.safetensors", facts) == expected
    assert metadata("index.safetensors", dict(reversed(facts.items()))) == expected


class Packed(np.ndarray):
    """A weight that says what its products are computed in, as packed ones do."""

    precision = ""


@pytest.mark.parametrize(("precision", "said"), [("float32", None), ("bfloat16", "bfloat16"), ("int8", "int8")])
def test_a_memory_says_a_lower_precision(precision: str, said: str | None) -> None:
    head = np.zeros((3, 4), "float32").view(Packed)
    head.precision = precision
    model = replace(MODEL, embedding=head, decoder=replace(MODEL.decoder, lm_head=None))
    facts = build_facts(NUMPY, model, "tokenizer", "float32", 1, "sha256", 1)
    assert facts.get("precision") == said
