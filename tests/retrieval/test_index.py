"""Indexes: the exact k best whatever the blocks, what a build leaves behind, and the commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from few_passages import FEW, quiet
from gtr_folder import write_gtr
from hypothesis import given
from hypothesis import strategies as st

from glimmer_ref.data.inputs import read_passages
from glimmer_ref.disk.lock import lock_folder
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.ops import bind
from glimmer_ref.retrieval import bm25_index, dense, gtr, index_files
from glimmer_ref.retrieval import top_k as top
from glimmer_ref.retrieval.bm25 import BM25
from glimmer_ref.retrieval.top_k import best, top_k

PASSAGES, QUESTIONS = bundled() / "passages.jsonl", bundled() / "questions.jsonl"


@pytest.fixture
def retriever(tmp_path: Path) -> gtr.GTR:
    return gtr.load(write_gtr(tmp_path / "gtr"), bind("numpy"))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(1, 30))
def test_best_is_a_stable_sort(numbers: list[int], k: int) -> None:
    scores, k = np.array(numbers, np.float32), min(k, len(numbers))
    right = np.argsort(-scores, kind="stable")[:k]
    found, rows = best(scores, np.arange(len(numbers)), k)
    assert rows.tolist() == right.tolist() and found.tolist() == scores[right].tolist()


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 20), st.integers(1, 25), st.integers(0, 99))
def test_top_k_is_the_whole_product_sorted(n: int, q: int, k: int, block: int, seed: int) -> None:
    """Small whole numbers: every sum is exact, and there are ties enough."""
    rng, k = np.random.default_rng(seed), min(k, n)
    e, x = (rng.integers(-2, 3, (count, 3)).astype(np.float32) for count in (n, q))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(top, "BLOCK", block)
        scores, rows = top_k(x, (e[i : i + block] for i in range(0, n, block)), k)
    right = np.argsort(-(x @ e.T), axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, right)
    np.testing.assert_array_equal(scores, np.take_along_axis(x @ e.T, right, 1))


@pytest.mark.parametrize("q", [1, 5])
def test_equal_passages_score_equally_wherever_they_stand(q: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(top, "BLOCK", 64)
    rng = np.random.default_rng(0)
    e, x = np.tile(rng.standard_normal((1, 768), np.float32), (301, 1)), rng.standard_normal((q, 768), np.float32)
    scores, rows = top_k(x, (e[i : i + 64] for i in range(0, 301, 64)), 301)
    assert all(len(set(row.tolist())) == 1 for row in scores)
    np.testing.assert_array_equal(rows, np.tile(np.arange(301), (q, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_dense_index_finds_the_nearest(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "SHARD", 16)
    index = dense.build(corpus, tmp_path / "index", retriever, dtype, quiet)
    asked = ["Who wrote The Crooked Sailor?", "Where?"]
    passages = list(read_passages(corpus))
    e = retriever(gtr.passage_text(p) for p in passages).astype(dtype).astype(np.float32)
    assert len(index) == 40 and sorted(x.name for x in (tmp_path / "index").glob("shard*")) == [
        f"shard-0000{i}.safetensors" for i in range(3)
    ]
    for (ids, scores), x in zip(index.search(asked, 7, quiet), retriever(asked), strict=True):
        right = np.argsort(-(e @ x), kind="stable")[:7]
        assert ids == [passages[i].id for i in right]
        np.testing.assert_allclose(scores, (e @ x)[right], atol=1e-6)
    for k in (0, 41):
        with pytest.raises(InputError, match="1 to 40"):
            index.search(asked, k, quiet)


def test_a_stopped_build_goes_on_to_the_same_bytes(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "SHARD", 16)

    def stopped(items: Iterable[Any], *more: Any) -> Iterable[Any]:
        for i, item in enumerate(items):
            if i == 20:
                raise KeyboardInterrupt
            yield item

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    dense.build(corpus, whole, retriever, show=quiet)
    with pytest.raises(KeyboardInterrupt):
        dense.build(corpus, parts, retriever, show=stopped)
    with pytest.raises(InputError, match="one whose build was stopped"):
        dense.DenseIndex(parts, retriever)
    (parts / ".shard-00001.safetensors.1.new").write_bytes(b"half")
    first = (parts / "shard-00000.safetensors").stat().st_mtime_ns
    (parts / "shard-00002.safetensors").unlink(missing_ok=True)
    dense.build(corpus, parts, retriever, show=quiet)
    assert (parts / "shard-00000.safetensors").stat().st_mtime_ns == first
    assert {x.name: x.read_bytes() for x in parts.iterdir()} == {x.name: x.read_bytes() for x in whole.iterdir()}
    index_files.verify(parts, quiet)


def test_other_folders_corpora_and_models_are_refused(retriever: gtr.GTR, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    dense.build(corpus, folder, retriever, show=quiet)
    other = gtr.load(write_gtr(tmp_path / "other", seed=1), bind("numpy"))
    with pytest.raises(InputError, match="one of another model"):
        dense.DenseIndex(folder, other)
    with pytest.raises(InputError, match="an index with dtype=float16; got dtype=float32; name another folder"):
        dense.build(corpus, folder, retriever, "float16", quiet)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".build.json.0.new").write_text("{")  # a kill at the very first write
    assert len(dense.build(corpus, tmp_path / "begun", retriever, show=quiet)) == 40
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"a folder of its own for the index; got notes\.txt"):
        dense.build(corpus, tmp_path / "mine", retriever, show=quiet)
    with lock_folder(folder, bool), pytest.raises(InputError, match="a second one"):
        dense.build(corpus, folder, retriever, show=quiet)
    with pytest.raises(InputError, match="one of embeddings"):
        bm25_index.BM25Index(folder)
    with pytest.raises(InputError, match="float32, float16"):
        dense.build(corpus, tmp_path / "new", retriever, "int8", quiet)


def test_damage_is_named(retriever: gtr.GTR, corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    dense.build(corpus, folder, retriever, show=quiet)
    shard = folder / "shard-00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(InputError, match="shard-00000"):
        dense.DenseIndex(folder, retriever)
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="other bytes"):
        index_files.verify(folder, quiet)
    with pytest.raises(InputError, match="other bytes"):
        dense.build(corpus, folder, retriever, show=quiet)
    shard.unlink()
    dense.build(corpus, folder, retriever, show=quiet)
    assert shard.read_bytes() == whole
    (folder / "index.json").write_text("[]")
    with pytest.raises(InputError, match="what glimmer-ref index build writes"):
        dense.DenseIndex(folder, retriever)
    with pytest.raises(InputError, match=r"an index, with index\.json"):
        index_files.read_facts(tmp_path / "nowhere")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux tells which files are open")
def test_few_shards_are_open_at_a_time(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each map takes one of the files that a process may have open: 1,282 of them for 21 M passages."""
    monkeypatch.setattr(dense, "SHARD", 1)
    right = dense.build(corpus, tmp_path / "index", retriever, show=quiet).search(["Where?"], 40, quiet)[0]
    monkeypatch.setattr(dense, "OPEN_SHARDS", 3)
    index, most = dense.DenseIndex(tmp_path / "index", retriever), 0
    blocks = index.blocks

    def counted() -> Iterable[np.ndarray]:
        nonlocal most
        for block in blocks():
            places = [os.path.realpath(f"/proc/self/fd/{x}") for x in os.listdir("/proc/self/fd")]
            most = max(most, sum(str(tmp_path / "index") in place for place in places))
            yield block

    monkeypatch.setattr(index, "blocks", counted)
    ids, scores = index.search(["Where?"], 40, quiet)[0]
    assert ids == right[0] and scores.tolist() == right[1].tolist() and 1 <= most <= 4


def test_a_full_disk_is_said_and_the_rest_made_later(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *more: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(InputError, match="got No space left on device"):
        patch.setattr(dense, "write_tensors", full)
        dense.build(corpus, tmp_path / "index", retriever, show=quiet)
    assert len(dense.build(corpus, tmp_path / "index", retriever, show=quiet)) == 40


def test_words_rank_as_our_own_bm25_does(tmp_path: Path) -> None:
    """The stored postings are those in main memory; the scores lack the constant factor k1 + 1."""
    index = bm25_index.build(PASSAGES, tmp_path / "index", quiet)
    passages = list(read_passages(PASSAGES))
    ours, rows = BM25(passages), {p.id: i for i, p in enumerate(passages)}
    asked = [json.loads(line)["input"] for line in QUESTIONS.read_text("utf-8").splitlines()[::100]]
    for question, (ids, scores) in zip(asked, index.search(asked, 25, quiet), strict=True):
        right = ours.rank(question, 25)
        assert [rows[i] for i in ids] == right.tolist()
        assert (np.diff(scores) <= 0).all()
        np.testing.assert_allclose(scores * 1.9 * 2**24, ours.postings.scores(question)[right], rtol=1e-6)
    assert index.search(["zzzz"], 3, quiet)[0][0] == [p.id for p in passages[:3]], "nothing fits: the first ones"


def test_passages_without_a_word_are_one_line_and_leave_nothing(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "?"}\n{"text": "\\u3002"}\n', "utf-8")
    code, out, err = run("index", "build", path, tmp_path / "index", "--bm25")
    assert (code, out) == (2, "") and "a passage with a word, of letters or digits; got none" in err
    assert not (tmp_path / "index").exists()
    path.write_text('{"text": "?"}\n{"text": "a word"}\n{"text": "!"}\n', "utf-8")
    assert run("index", "build", path, tmp_path / "index", "--bm25")[0] == 0, "one is enough"
    index = bm25_index.BM25Index(tmp_path / "index")
    assert [ids for ids, _ in index.search(["WORD", "?"], 3, quiet)] == [["1", "0", "2"], ["0", "1", "2"]]


def test_an_index_finds_words_of_every_script(tmp_path: Path) -> None:
    texts = ["मुंबई एक शहर है", "दिल्ली की राजधानी", "Zoe\u0308 M", "大阪城は大阪にある", "東京タワーは高い"]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    index = bm25_index.build(path, tmp_path / "index", quiet)
    found = index.search(["राजधानी", "ZOË", "東京タワーの高さ", "大阪城"], 1, quiet)
    assert [ids for ids, _ in found] == [["1"], ["2"], ["4"], ["3"]]


def test_an_index_with_words_of_another_rule_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bm25_index, "RULE", 1)
    path = tmp_path / "p.jsonl"
    path.write_text('{"text": "a word"}\n', "utf-8")
    bm25_index.build(path, tmp_path / "index", quiet)
    monkeypatch.undo()
    with pytest.raises(InputError, match="one of another version; build the index again"):
        bm25_index.BM25Index(tmp_path / "index")


BUILD = "import sys; from glimmer_ref.cli import main; sys.exit(main(['index', 'build', *sys.argv[1:], '--bm25']))"


def words_built(corpus: Path, folder: Path, seed: int, before: str = "") -> int:
    """An index of words made by a process whose sets have an order of their own; its exit code."""
    command = [sys.executable, "-c", before + BUILD, str(corpus), str(folder)]
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    return subprocess.run(command, env=env, timeout=60, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL).returncode


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {x.name: (x.read_bytes(), x.stat().st_mtime_ns) for x in folder.iterdir()}


KILLED = """
import os
real, left = os.replace, [{}]
def replace(source, target):
    left[0] -= 1
    if left[0] < 0: os._exit(9)
    real(source, target)
os.replace = replace
"""


def test_every_build_of_words_gives_the_same_bytes_and_leaves_a_finished_one(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    assert words_built(corpus, folder, 1) == 0
    first = state(folder)
    assert words_built(corpus, tmp_path / "two", 2) == 0
    assert {n: raw for n, (raw, _) in state(tmp_path / "two").items()} == {n: raw for n, (raw, _) in first.items()}
    assert words_built(corpus, folder, 3) == 0 and state(folder) == first, "a second build touches nothing"
    (folder / bm25_index.WORDS).unlink()
    assert words_built(corpus, folder, 4) == 0
    assert {n: raw for n, (raw, _) in state(folder).items()} == {n: raw for n, (raw, _) in first.items()}
    raw = first[bm25_index.WORDS][0]
    (folder / bm25_index.WORDS).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(
        InputError, match=r"words\.safetensors: expected the file that was built; got other bytes; remove this file"
    ):
        bm25_index.build(corpus, folder, quiet)
    with pytest.raises(InputError, match=r"words\.safetensors: expected the file that was built; got another"):
        bm25_index.BM25Index(folder)


def test_a_build_of_words_that_is_killed_anywhere(corpus: Path, tmp_path: Path) -> None:
    """Before each of its files takes its place: it does not open, and a second run makes it whole."""
    bm25_index.build(corpus, tmp_path / "right", quiet)
    whole = {n: raw for n, (raw, _) in state(tmp_path / "right").items()}
    for after in (0, 1, 2, 3):
        folder = tmp_path / str(after)
        assert words_built(corpus, folder, after, KILLED.format(after)) == 9
        with pytest.raises(
            InputError,
            match=r"a finished index; got one whose build was|an index, with index\.json; got no index",
        ):
            bm25_index.BM25Index(folder)
        bm25_index.build(corpus, folder, quiet)
        assert {n: raw for n, (raw, _) in state(folder).items()} == whole, "nor is anything left over"


def test_a_finished_shard_of_an_unfinished_index_is_known_by_its_digest(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "SHARD", 16)
    folder = tmp_path / "index"

    def stopped(items: Iterable[Any], total: int, what: str, *more: Any) -> Iterable[Any]:
        for i, item in enumerate(items):
            if what == "passages" and i == 20:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        dense.build(corpus, folder, retriever, show=stopped)
    shard = folder / "shard-00000.safetensors"
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(
        InputError,
        match=r"shard-00000\.safetensors: expected the file that was built; got other bytes; remove this file",
    ):
        dense.build(corpus, folder, retriever, show=quiet)
    shard.write_bytes(raw)
    (folder / "finished.jsonl").write_text('{"file": "shard-00000.safet')  # a kill as this line was written
    assert len(dense.build(corpus, folder, retriever, show=quiet)) == 40
    index_files.verify(folder, quiet)
    assert shard.read_bytes() == raw and not (folder / "finished.jsonl").exists()


def test_the_commands(run: Any, corpus: Path, tmp_path: Path) -> None:
    model, questions = write_gtr(tmp_path / "gtr"), tmp_path / "nq-dev-kilt.jsonl"
    ids = [json.loads(line)["id"] for line in FEW]
    questions.write_text(json.dumps({"id": 7, "input": "Who?", "gold": ids[:2], "mine": [1]}) + "\n")
    for name, how in (("a", ["--gtr", model]), ("b", ["--bm25"])):
        assert (
            run("index", "build", corpus, tmp_path / name, *how, *(["--ops", "numpy"] if name == "a" else []))[0] == 0
        )
        code, out, _ = run("index", "info", tmp_path / name, "--verify", "--json")
        assert code == 0 and json.loads(out)["passages"] == 40
        which = ["--index", tmp_path / name, *(how if name == "a" else []), "--ops", "numpy"]
        code, out, _ = run("retrieve", "Who wrote?", *which, "--k", 3, "--passages", corpus)
        assert code == 0 and len(out.splitlines()) == 3 and max(map(len, out.splitlines())) <= 80
        assert len(json.loads(run("retrieve", "Who?", *which, "--k", 3, "--json")[1])["passages"]) == 3
        check_titles(run, which)
        found = tmp_path / f"{name}.jsonl"
        code, out, _ = run("retrieve", "--questions", questions, *which, "--k", 40, "--out", found)
        assert code == 0 and out.splitlines()[1].split()[0] == "nq" and "100.0" in out
        line = json.loads(found.read_text())
        assert (line["id"], line["mine"]) == (7, [1]) and sorted(line["candidates"]) == sorted(ids)
        run("retrieve", "--questions", questions, *which, "--k", 40, "--out", found, "--only-found")
        assert len(found.read_text().splitlines()) == 1
        questions.write_text(json.dumps({"id": 7, "input": "Who?", "gold": ["elsewhere"]}) + "\n")
        code, out, _ = run("retrieve", "--questions", questions, *which, "--k", 40, "--out", found, "--only-found")
        assert (
            code == 0 and found.read_text() == "" and out.endswith("0 questions with 40 candidates each, 1 dropped\n")
        )
        questions.write_text(json.dumps({"id": 7, "input": "Who?", "gold": ids[:2], "mine": [1]}) + "\n")
        ask = ("evaluate", questions, "--passages", corpus, *which, "--out", tmp_path / f"scores {name}", "--m", 1)
        assert run(*ask, "--k", 5)[0] == run(*ask, "--k", 9)[0] == 0, "another k beside it"
        few = tmp_path / "few.jsonl"
        few.write_text("\n".join(FEW[20:]) + "\n", "utf-8")
        code, out, err = run("evaluate", questions, "--passages", few, *which, "--k", 20, "--m", 1)
        assert (code, out) == (2, "") and "an index of the passages that are evaluated" in err


def check_titles(run: Any, which: list[Any]) -> None:
    """The index itself knows the titles of its passages."""
    titles = {p["id"]: p["title"] for p in map(json.loads, FEW)}
    out = run("retrieve", "Who wrote?", *which, "--k", 40)[1]
    shown = dict(line.split(maxsplit=3)[2:] for line in out.splitlines())
    assert shown == titles and len(set(titles.values())) > 3
    found = json.loads(run("retrieve", "Who?", *which, "--k", 3, "--json")[1])["passages"]
    assert [p["title"] for p in found] == [titles[p["id"]] for p in found] and "text" not in found[0]


def test_the_commands_refuse_in_one_line(run: Any, corpus: Path, tmp_path: Path) -> None:
    model, index = write_gtr(tmp_path / "gtr"), tmp_path / "index"
    run("index", "build", corpus, index, "--gtr", model, "--ops", "numpy")
    run("index", "build", corpus, tmp_path / "words", "--bm25")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{broken\n')
    lone = tmp_path / "lone.jsonl"
    lone.write_text('{"text": "\\ud800"}\n')
    for words, said in (
        (("retrieve", "who?"), "--index DIR"),
        (("retrieve", "--index", index), "a QUESTION or --questions"),
        (("retrieve", "who?", "--questions", empty, "--index", index), "got both"),
        (("retrieve", " ", "--index", index), "expected some text"),
        (("retrieve", "who?", "--index", tmp_path / "no"), "index.json"),
        (("retrieve", "who?", "--index", index), "--gtr"),
        (("retrieve", "who?", "--index", index, "--gtr", tmp_path, "--ops", "numpy"), "modules.json"),
        (
            ("retrieve", "who?", "--index", tmp_path / "words", "--gtr", model, "--ops", "numpy"),
            "none with an index of words",
        ),
        (("retrieve", "who?", "--index", tmp_path / "words", "--k", "99"), "got 99"),
        (("retrieve", "--questions", empty, "--index", index, "--out", "x"), "at least one question"),
        (("retrieve", "--questions", empty, "--index", index), "--out OUT.jsonl"),
        (("index", "build", empty, tmp_path / "x", "--bm25"), "at least one passage"),
        (("index", "build", bad, tmp_path / "y", "--bm25"), "line 2"),
        (("index", "build", lone, tmp_path / "z", "--gtr", model, "--ops", "numpy"), "half of a surrogate pair"),
        (("index", "build", corpus, tmp_path / "v", "--bm25", "--store", "float16"), "none with --bm25"),
        (("index", "build", tmp_path / "no.jsonl", tmp_path / "u", "--bm25"), "no.jsonl"),
    ):
        code, out, err = run(*words)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1, (words, err)


@pytest.mark.parametrize("k", [1, 7, 500, 990, 999])
def test_best_of_a_thousand(k: int) -> None:
    scores = np.random.default_rng(k).permutation(1000).astype(np.float32) // 3  # two or three of each
    found, rows = best(scores, np.arange(1000), k)
    right = np.argsort(-scores, kind="stable")[:k]
    assert rows.tolist() == right.tolist() and found.tolist() == scores[right].tolist()


def test_a_score_hangs_on_its_row_alone() -> None:
    """The same bits, however few rows come at once: a product of other sizes may be summed in another order."""
    rng = np.random.default_rng(0)
    questions, rows = (rng.standard_normal((n, 257)).astype(np.float32) for n in (3, top.BLOCK))
    alike = [top_k(questions, [rows[:24][i : i + n] for i in range(0, 24, n)], 24) for n in (1, 3, 24)]
    whole = top_k(questions, [np.concatenate([rows[:24], np.full_like(rows[24:], -1e9) * np.sign(questions[0])])], 24)
    for scores, found in alike:
        np.testing.assert_array_equal(scores, alike[0][0])
        np.testing.assert_array_equal(found, alike[0][1])
    np.testing.assert_array_equal(whole[0][0], alike[0][0][0])
