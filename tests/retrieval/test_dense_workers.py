"""Many workers make the same index as one process, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from gtr_folder import write_gtr

from glimmer_ref.cli import main
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import bundled
from glimmer_ref.ops import bind
from glimmer_ref.retrieval import dense, dense_workers, gtr
from glimmer_ref.workers.process_pool import Processes
from glimmer_ref.workers.tasks import Workers

FEW = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[:30]
SIZE = 4


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "passages.jsonl"
    path.write_text("\n" + "\n\n".join(FEW) + "\n", "utf-8")
    return path


@pytest.fixture
def retriever(tmp_path: Path) -> gtr.GTR:
    return gtr.load(write_gtr(tmp_path / "gtr"), bind("numba"))


def quiet(items: Iterable[Any], *more: Any) -> Iterable[Any]:
    return items


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def threads(folder: Path) -> Workers:
    return Workers(ThreadPoolExecutor(2), 2, str(folder / "gtr"))


def test_any_workers_give_the_same_bytes_and_one_may_be_killed(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path
) -> None:
    what = {"shard_passages": SIZE, "show": quiet}
    dense.build(corpus, tmp_path / "alone", retriever, "float16", **what)
    alone, killed = contents(tmp_path / "alone"), list[int]()
    assert len(alone) == 8 + 2

    def show(items: Iterable[Any], total: int, *more: Any) -> Iterator[Any]:
        assert total == 30
        for item in items:
            if not killed:
                killed.append(executor.workers[0].process.pid)
                os.kill(killed[0], signal.SIGKILL)
            yield item

    with Processes(2) as executor:
        some = Workers(executor, 2, str(tmp_path / "gtr"))
        index = dense.build(
            corpus, tmp_path / "many", retriever, "float16", shard_passages=SIZE, show=show, workers=some
        )
    assert contents(tmp_path / "many") == alone and killed
    assert index.id(29) == json.loads(FEW[29])["id"]
    for name in ("shard-00001.safetensors", "shard-00006.safetensors"):
        (tmp_path / "many" / name).unlink()
    dense.build(corpus, tmp_path / "many", retriever, "float16", workers=threads(tmp_path), **what)
    assert contents(tmp_path / "many") == alone


def test_what_workers_cannot_make_is_told_and_made_later(
    retriever: gtr.GTR, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: dense_workers.Task) -> dense_workers.Written:
        if task.part.number in (3, 5):
            raise OSError(28, "No space left on device")
        return write(task)

    write, what = dense_workers.write, {"shard_passages": SIZE, "show": quiet, "workers": threads(tmp_path)}
    monkeypatch.setattr(dense_workers, "write", fails)
    with pytest.raises(
        InputError, match=r"2 shards: expected every shard after 3 tries; got shard-00003.*No space left"
    ):
        dense.build(corpus, tmp_path / "many", retriever, **what)
    with pytest.raises(InputError, match="a finished index"):
        dense.DenseIndex(tmp_path / "many", retriever)
    monkeypatch.undo()
    dense.build(corpus, tmp_path / "many", retriever, **what)
    dense.build(corpus, tmp_path / "alone", retriever, shard_passages=SIZE, show=quiet)
    assert contents(tmp_path / "many") == contents(tmp_path / "alone")


def test_another_retriever_or_file_at_a_worker_is_refused(retriever: gtr.GTR, corpus: Path, tmp_path: Path) -> None:
    other = write_gtr(tmp_path / "other", seed=1)
    some = Workers(ThreadPoolExecutor(1), 1, str(other))
    with pytest.raises(InputError, match="the one of the build; got another; give every worker the same files"):
        dense.build(corpus, tmp_path / "many", retriever, shard_passages=SIZE, show=quiet, workers=some)
    assert not list((tmp_path / "many").glob("*.json*")), "nothing to resume from is left"

    def show(items: Iterable[Any], *more: Any) -> Iterator[Any]:
        for i, item in enumerate(items):
            if i == 3:
                corpus.write_text("\n".join(FEW[::-1]), "utf-8")
            yield item

    with pytest.raises(InputError, match="a file that stays as it is during the build"):
        dense.build(corpus, tmp_path / "new", retriever, shard_passages=SIZE, show=show, workers=threads(tmp_path))


def test_the_command_spawns_workers_and_refuses(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_gtr(tmp_path / "gtr")
    build = ["index", "build", str(corpus)]
    by = ["--gtr", str(model), "--shard-passages", "4"]
    assert main([*build, str(tmp_path / "a"), *by]) == 0
    assert main([*build, str(tmp_path / "b"), *by, "--workers", "2", "--json"]) == 0
    assert '"shard_passages": 4' in capsys.readouterr().out
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for words, said in (
        (["--bm25", "--workers", "2"], "--workers: expected none with --bm25, which reads no model"),
        (["--bm25", "--scheduler", "tcp://nowhere:1"], "--scheduler: expected none with --bm25"),
        (["--bm25", "--shard-passages", "4"], "--shard-passages: expected none with --bm25; got 4"),
        ([*by[:2], "--workers", "0"], "--workers: expected at least 1"),
        ([*by[:2], "--shard-passages", "0"], "shard_passages: expected at least 1; got 0"),
    ):
        assert main([*build, str(tmp_path / "c"), *words]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "c").exists()
