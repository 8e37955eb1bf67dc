"""Many workers make the same memory as one, whatever happens to them; and a plan says before what it will weigh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from pickle import PicklingError
from typing import Any

import pytest
from paths import HELPERS

import glimmer_ref
from glimmer_ref.errors import InputError
from glimmer_ref.inference.reader import Reader, bundled
from glimmer_ref.memory import workers as memory_workers
from glimmer_ref.memory.build import build
from glimmer_ref.memory.manifest import QUARANTINE
from glimmer_ref.memory.store import Memory
from glimmer_ref.memory.workers import Task, Written, write
from glimmer_ref.workers.parts import split_passages
from glimmer_ref.workers.process_pool import Died, Processes
from glimmer_ref.workers.tasks import Workers

LINES = (bundled() / "passages.jsonl").read_text("utf-8").splitlines()[:30]
SIZE = 4
MODEL = str(bundled())


@pytest.fixture(scope="module")
def reader() -> Reader:
    return glimmer_ref.load(ops="numpy")


@pytest.fixture(scope="module")
def compiled() -> Reader:
    """Of the kernels, whose bits do not depend on how many threads a process has."""
    return glimmer_ref.load(ops="numba")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Thirty passages, blank lines among them, some without an id of their own."""
    lines = [line if i % 7 else json.dumps({"text": json.loads(line)["text"]}) for i, line in enumerate(LINES)]
    path = tmp_path / "passages.jsonl"
    path.write_text("\n" + "\n\n".join(lines[:9]) + "\n" + "\n".join(lines[9:]), "utf-8")
    return path


def quiet(items: Iterable[Any], *more: Any) -> Iterable[Any]:
    return items


def built(reader: Reader, corpus: Path, folder: Path, workers: Workers | None = None, **more: Any) -> dict[str, bytes]:
    build(
        reader.ops,
        reader.model,
        reader.tokenizer,
        corpus,
        folder,
        shard_passages=SIZE,
        show=quiet,
        workers=workers,
        **more,
    )
    return contents(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def threads(count: int = 2) -> Workers:
    return Workers(ThreadPoolExecutor(count), count, MODEL, "numpy")


class Now(Executor):
    """Runs a task when it is handed out, after `before` has seen it; keeps what was at work at most."""

    def __init__(self, before: Callable[[Task], None] = lambda task: None) -> None:
        self.before, self.handed = before, list[int]()

    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.handed.append(args[0].part.number)
        try:
            self.before(args[0])
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def test_parts_are_the_shards_of_the_file(corpus: Path) -> None:
    found = list(split_passages(corpus, SIZE))
    assert [(p.number, p.first, p.passages) for p in found] == [(i, 4 * i, 4 if i < 7 else 2) for i in range(8)]
    data = corpus.read_bytes()
    assert b"".join(data[p.offset : p.offset + p.length] for p in found) == data


@pytest.mark.parametrize(
    ("dtype", "counts"),
    [
        ("float32", (1, 3)),
        ("int8", (2,)),
        pytest.param("float32", (2,), marks=pytest.mark.slow),
        pytest.param("int8", (1, 3), marks=pytest.mark.slow),
    ],
)
def test_any_number_of_workers_gives_the_same_bytes(
    reader: Reader, corpus: Path, tmp_path: Path, dtype: str, counts: tuple[int, ...]
) -> None:
    alone = built(reader, corpus, tmp_path / "alone", dtype=dtype)
    for count in counts:
        assert built(reader, corpus, tmp_path / str(count), threads(count), dtype=dtype) == alone
    assert len(alone) == 8 + 2


def test_processes_give_the_same_bytes_and_one_may_be_killed(compiled: Reader, corpus: Path, tmp_path: Path) -> None:
    """The first is killed once it is at work; another takes its place."""
    alone, killed = built(compiled, corpus, tmp_path / "alone"), list[int]()

    def show(items: Iterable[Any], total: int, what: str, *more: Any) -> Iterator[Any]:
        for item in items:
            if what == "memory" and not killed:
                killed.append(executor.workers[0].process.pid)
                os.kill(killed[0], signal.SIGKILL)
            yield item

    with Processes(2) as executor:
        workers = Workers(executor, 2, MODEL, "numba")
        folder = tmp_path / "many"
        what = (compiled.ops, compiled.model, compiled.tokenizer, corpus, folder)
        build(*what, shard_passages=SIZE, show=show, workers=workers)
        assert killed[0] not in [worker.process.pid for worker in executor.workers]
    assert contents(folder) == alone


def test_what_is_there_is_kept_and_what_is_missing_made(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    alone = built(reader, corpus, tmp_path / "alone")
    (tmp_path / "alone" / "shard-00002.safetensors").unlink()
    (tmp_path / "alone" / "shard-00005.safetensors").unlink()
    executor = Now()
    assert built(reader, corpus, tmp_path / "alone", Workers(executor, 1, MODEL, "numpy")) == alone
    assert executor.handed == [2, 5]


def test_few_tasks_are_handed_out_ahead(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    """Never more than twice as many as there are workers."""
    most, pool = [], ThreadPoolExecutor(2)

    class Counting(Now):
        def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
            running.append(pool.submit(fn, *args))
            most.append(sum(not future.done() for future in running))
            return running[-1]

    running: list[Future[Any]] = []
    built(reader, corpus, tmp_path / "many", Workers(Counting(), 2, MODEL, "numpy"))
    assert len(most) == 8 and max(most) <= 4


def failing(numbers: set[int], times: int, error: Exception) -> Callable[[Task], None]:
    """Fails so many times for some shards."""
    left = dict.fromkeys(numbers, times)

    def before(task: Task) -> None:
        if left.get(task.part.number, 0):
            left[task.part.number] -= 1
            raise error

    return before


def test_a_shard_that_fails_twice_is_made_the_third_time(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    executor = Now(failing({3}, 2, OSError("the network is down")))
    folder = tmp_path / "many"
    assert built(reader, corpus, folder, Workers(executor, 2, MODEL, "numpy")) == built(
        reader, corpus, tmp_path / "alone"
    )
    assert executor.handed.count(3) == 3


def test_a_shard_that_always_fails_is_left_out_and_told(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    """The others are made; the memory does not open; a later run makes it whole."""
    executor, folder = Now(failing({3}, 99, InputError("passage 'x'", "finite values", "nan"))), tmp_path / "many"
    workers = Workers(executor, 2, MODEL, "numpy")
    with pytest.raises(
        InputError, match=r"1 shard: expected every shard after some tries; got shard-00003.* passage 'x'"
    ):
        built(reader, corpus, folder, workers)
    told = json.loads((folder / QUARANTINE).read_text())
    assert told == {
        "shard-00003.safetensors": {
            "first": 12,
            "last": 15,
            "tries": 3,
            "error": "passage 'x': expected finite values; got nan",
        }
    }
    assert len(list(folder.glob("shard-*"))) == 7
    with pytest.raises(InputError, match=r"an unfinished one of 7 shards; .*quarantine.json says what failed"):
        Memory.open(folder)
    assert built(reader, corpus, folder, threads()) == built(reader, corpus, tmp_path / "alone")


def test_where_everything_fails_it_is_given_up_early(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    executor = Now(failing(set(range(8)), 99, OSError(28, "No space left on device")))
    with pytest.raises(InputError, match=r"[56] shards: .* No space left on device"):
        built(reader, corpus, tmp_path / "many", Workers(executor, 1, MODEL, "numpy"))


def deadly(task: Task) -> Written:
    """Shard 4 kills whoever takes it."""
    if task.part.number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(task)


class Deadly(Processes):
    def submit(self, fn: Any, /, *args: Any, **more: Any) -> Future[Any]:
        return super().submit(deadly, *args)


def test_only_the_shard_that_kills_its_worker_is_blamed(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    """What ran beside it is made."""
    folder = tmp_path / "many"
    with (
        Deadly(2) as executor,
        pytest.raises(
            InputError, match=r"1 shard: .*shard-00004.*its worker died of it, or was killed \(exit code -9\)"
        ),
    ):
        built(reader, corpus, folder, Workers(executor, 2, MODEL, "numpy"))
    assert len(list(folder.glob("shard-*"))) == 7
    assert list(json.loads((folder / QUARANTINE).read_text())) == ["shard-00004.safetensors"]


def nothing(seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return os.getpid()


def wrong(word: str) -> None:
    raise KeyError(word)


def test_processes_are_used_again_replaced_and_ended() -> None:
    """Errors come back as words; whoever waits for a process that dies is told; no process is left."""
    with Processes(2) as some:
        first = some.submit(nothing).result()
        assert some.submit(nothing, seconds=0.1).result() == first
        with pytest.raises(RuntimeError, match=r"^'what'$"):
            some.submit(wrong, "what").result()
        with pytest.raises((AttributeError, PicklingError)):
            some.submit(lambda: 0).result()
        with pytest.raises(Died, match=r"exit code 3\)"):
            some.submit(os._exit, 3).result()
        second = some.submit(nothing).result()
        assert second != first
        begun = time.monotonic()
        running = [some.submit(nothing, 60) for _ in range(5)]
        time.sleep(0.2)
        some.shutdown(wait=False)
        assert all(future.cancelled() or isinstance(future.exception(), Died) for future in running)
        assert time.monotonic() - begun < 30
        workers = some.workers
    for worker in workers:
        worker.process.join(10)
        assert worker.process.exitcode is not None


def test_another_file_or_model_at_a_worker_is_refused(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    part = next(split_passages(corpus, SIZE))
    facts = {"encoder": {"weights": "others"}, "dtype": "float32"}
    task = Task((MODEL, "numpy", "float32", "float32", None), str(corpus), part, str(tmp_path), facts)
    with pytest.raises(InputError, match=r"worker's model .*weights=others"):
        write(task)
    right = memory_workers._opened(*task.workers[:4])[3]
    corpus.write_bytes(corpus.read_bytes()[1:])
    with pytest.raises(InputError, match="the file that the build began with; got another"):
        write(task._replace(build={**facts, "encoder": right}))
    corpus.unlink()
    with pytest.raises(InputError, match="a file that workers can read"):
        write(task._replace(build={**facts, "encoder": right}))


def test_a_source_that_changes_ends_the_build_at_once(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    def before(task: Task) -> None:
        if task.part.number == 2:
            corpus.write_text("\n".join(LINES[::-1]), "utf-8")

    with pytest.raises(InputError, match="a file that stays as it is during the build"):
        built(reader, corpus, tmp_path / "many", Workers(Now(before), 1, MODEL, "numpy"))
    assert not (tmp_path / "many" / QUARANTINE).exists()


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_memory_workers as t, glimmer_ref, os
def show(items, total, what, *more):
    for i, item in enumerate(items):
        if i == 9: os.kill(os.getpid(), 9)
        yield item
if __name__ == "__main__":
    reader, folder = glimmer_ref.load(ops="numpy"), Path(sys.argv[2])
    t.build(reader.ops, reader.model, reader.tokenizer, folder / "passages.jsonl", folder / "many",
            shard_passages=t.SIZE, show=show, workers=t.threads())
"""


def test_a_killed_orchestrator_is_gone_on_from(reader: Reader, corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script, "", tmp_path, HELPERS, Path(__file__).parent], check=False)
    assert done.returncode == -signal.SIGKILL
    assert 2 <= len(list((tmp_path / "many").glob("shard-*"))) <= 8
    assert built(reader, corpus, tmp_path / "many", threads()) == built(reader, corpus, tmp_path / "alone")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a process is ended without being asked")
def test_a_build_that_is_asked_to_end_ends_quietly(corpus: Path, tmp_path: Path) -> None:
    """One line, no traceback of its workers, and no worker left."""
    folder, errors = tmp_path / "many", tmp_path / "errors"
    words = ["memory", "build", corpus, folder, "--workers", 2, "--ops", "numpy", "--shard-passages", 1]
    command = [sys.executable, "-m", "glimmer_ref", *map(str, words)]
    with errors.open("w") as err:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True)
        until = time.monotonic() + 60
        while len(list(folder.glob("shard-*"))) < 2 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.terminate()
        assert process.wait(30) == 130
    (line,) = [line for line in errors.read_text().splitlines() if line.strip()]
    assert line == f"glimmer-ref: stopped; {folder} keeps the finished shards, and the same command continues"
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert not (folder / ".lock").exists()


@pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra distributed; .ci/run installs it")
@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_whose_workers_are_killed(compiled: Reader, corpus: Path, tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    alone, killed = built(compiled, corpus, tmp_path / "alone"), []
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def show(items: Iterable[Any], total: int, what: str, *more: Any) -> Iterator[Any]:
            for i, item in enumerate(items):
                if what == "memory" and i % 8 == 0 and len(killed) < 2:
                    pids = client.run(os.getpid)
                    if new := sorted(set(pids.values()) - set(killed)):
                        killed.append(new[0])
                        os.kill(new[0], signal.SIGKILL)
                        time.sleep(0.2)
                yield item

        workers = Workers(client.get_executor(pure=False), 2, MODEL, "numba")
        what = (compiled.ops, compiled.model, compiled.tokenizer, corpus, tmp_path / "many")
        build(*what, shard_passages=SIZE, show=show, workers=workers)
    assert contents(tmp_path / "many") == alone and len(killed) == 2


@pytest.mark.parametrize("store", ["float32", "float16", "bfloat16", "int8"])
def test_a_plan_knows_every_byte(run: Any, corpus: Path, tmp_path: Path, store: str) -> None:
    shared = ("--store", store, "--shard-passages", 7, "--ops", "numpy")
    code, out, _ = run("memory", "plan", corpus, *shared, "--json", "--workers", 2)
    plan = json.loads(out)
    assert code == 0 and run("memory", "build", corpus, tmp_path / "memory", *shared)[0] == 0
    info = Memory.open(tmp_path / "memory").info()
    for name in ("passages", "tokens", "shards"):
        assert plan[name] == info[name]
    assert plan["bytes"] == info["bytes_on_disk"]
    rate = plan["tokens_per_second_and_worker"]
    assert rate > 0 and plan["hours"] == pytest.approx(plan["tokens"] / rate / 2 / 3600)


def test_a_plan_of_more_such_passages(run: Any, corpus: Path) -> None:
    few = json.loads(run("memory", "plan", corpus, "--ops", "numpy", "--json")[1])
    more = ("--passages", 1000 * few["passages"])
    many = json.loads(run("memory", "plan", corpus, *more, "--ops", "numpy", "--json")[1])
    assert (many["passages"], many["tokens"], many["macs"]) == tuple(
        1000 * few[name] for name in ("passages", "tokens", "macs")
    )
    assert many["bytes_are"].startswith("of states alone") and many["tokens_per_second_and_worker"] > 0


def test_a_plan_of_the_whole_wikipedia(run: Any) -> None:
    """21 M passages at XXL: 52.3 TB in bfloat16, and more multiply-adds than 64 bits hold."""
    plan = json.loads(run("memory", "plan", "--size", "xxl", "--passages", 21_000_000, "--tokens", 304, "--store",
                          "bfloat16", "--rate", 1e6, "--json")[1])  # fmt: skip
    assert plan["bytes"] == 21_000_000 * 304 * 4096 * 2
    weights, attention = 4 * 4096 * 4096 + 3 * 4096 * 10240, 2 * 304 * 4096
    assert plan["macs"] == 21_000_000 * 304 * 16 * (weights + attention) > 2**63
    assert plan["hours"] == pytest.approx(21_000_000 * 304 / 1e6 / 3600)
    assert "give --rate" in run("memory", "plan", "--size", "base", "--passages", 5)[1]


def test_the_commands_refuse_in_one_line(
    run: Any, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for words, said in (
        (("plan",), "--passages N; got neither"),
        (("plan", "--passages", 0), "--passages: expected a whole number from 1"),
        (("plan", "--passages", 10**400), "--passages: expected a whole number from 1 to 1,000,000,000,000; got 1000"),
        (("plan", "--passages", 3, "--size", "xxl", "--alpha", "1/5"), "alpha"),
        (("plan", corpus, "--size", "xxl"), "--passages N, and no model"),
        (("plan", "--passages", 3, "--workers", 0), "--workers: expected a whole number from 1"),
        (("plan", empty, "--ops", "numpy"), "at least one passage"),
        (("plan", "--passages", 3, "--rate", -1), "--rate: expected a number of tokens a second above 0"),
        (("build", corpus, tmp_path / "m", "--workers", 0), "--workers: expected at least 1"),
    ):
        code, out, err = run("memory", *words)
        assert (code, out) == (2, "") and said in err and err.count("\n") == 1, (words, err)
    monkeypatch.setattr("glimmer_ref.cli.workers.find_spec", lambda name: None)
    err = run("memory", "build", corpus, tmp_path / "m", "--scheduler", "tcp://nowhere:1", "--ops", "numpy")[2]
    assert "install it: pip install 'glimmer_ref[distributed]'" in err


def test_the_command_spawns_workers(run: Any, corpus: Path, tmp_path: Path) -> None:
    shared = ("--ops", "numba", "--shard-passages", 4)
    assert run("memory", "build", corpus, tmp_path / "a", *shared)[0] == 0
    before = {name: os.environ.get(name) for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    code, out, _ = run("memory", "build", corpus, tmp_path / "b", *shared, "--workers", 2)
    assert code == 0 and "30 passages encoded now" in out
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {name: os.environ.get(name) for name in before} == before
