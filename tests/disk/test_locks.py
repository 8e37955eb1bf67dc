"""What is written is there whole or not at all, by one process at a time, and nothing of a killed one stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.disk.folder import replacing
from glimmer_ref.disk.lock import lock_folder
from glimmer_ref.disk.read import max_open_files
from glimmer_ref.disk.write import clean_leftovers, temporary_of, write_text, written
from glimmer_ref.errors import InputError

HELD = "from glimmer_ref.disk.lock import lock_folder\nwith lock_folder({!r}, bool):"
WRITING = (
    "from glimmer_ref.disk.write import written\nwith written({!r}) as file:\n    file.write(b'half'); file.flush();"
)
FOLDER = "from glimmer_ref.disk.folder import replacing\nwith replacing({!r}, bool) as new:\n    (new / 'a').touch();"
WAIT = "\n    print('there', flush=True); import time; time.sleep(60)"


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has come to its `with` and waits there; killed at the end, as nothing else can end it."""
    code = script.format(str(path)) + WAIT
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None and started.stdout.readline() == "there\n"
            yield started
        finally:
            started.send_signal(signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(x.name for x in folder.iterdir())


def test_a_folder_is_held_by_one_process_and_free_once_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with process(HELD, folder):
        begun = time.monotonic()
        with (
            pytest.raises(InputError, match="out: expected one writer at a time; got a second one"),
            lock_folder(folder, bool),
        ):
            pass
        assert time.monotonic() - begun < 5, "refused at once"
    assert names(folder) == [".lock"], "left by the kill"
    with lock_folder(folder, bool), pytest.raises(InputError, match="a second one"), lock_folder(folder, bool):
        pass  # nor does a process hold it twice
    assert names(folder) == []


def test_a_folder_to_be_replaced_is_held_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with process(FOLDER, out):
        with pytest.raises(InputError, match="a second one"), replacing(out, bool):
            pass
        assert names(tmp_path) == [".out.lock", ".out.new"]
    with replacing(out, bool) as new:
        (new / "b").touch()
    assert names(tmp_path) == ["out"] and names(out) == ["b"], "what a kill left is swept"


def test_a_lock_that_its_holder_removed_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening the file and locking it: then the file of that name is another, or none."""
    from glimmer_ref.disk import lock

    real, left = lock.lock, [True, True]

    def late(descriptor: int) -> bool | None:
        if left.pop() if left else False:
            (tmp_path / ".lock").unlink()
        return real(descriptor)

    monkeypatch.setattr(lock, "lock", late)
    with lock_folder(tmp_path, bool):
        assert not left
        with pytest.raises(InputError, match="a second one"), lock_folder(tmp_path, bool):
            pass


def test_the_lock_of_one_that_was_killed_goes_even_where_nothing_is_left_to_do(tmp_path: Path) -> None:
    def occupied(path: Path) -> None:
        if path.exists():
            raise InputError(f"{path}", "a folder that is not there yet", "one that is there")

    (tmp_path / "out").mkdir()
    (tmp_path / ".out.lock").touch()
    with pytest.raises(InputError, match="one that is there"), replacing(tmp_path / "out", occupied):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_writers_at_once_do_not_meet_and_a_killed_ones_file_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    with process(WRITING, target), process(WRITING, target):
        write_text(target, "whole")
        assert names(tmp_path) == [".file.txt.0.new", ".file.txt.1.new", "file.txt"], "what is being written stays"
        clean_leftovers(tmp_path)
        assert len(names(tmp_path)) == 3
        with written(target) as file:
            file.write(b"last")
    assert target.read_bytes() == b"last"
    assert len(names(tmp_path)) == 3, "left by the kills"
    write_text(target, "whole")
    assert names(tmp_path) == ["file.txt"] and target.read_bytes() == b"whole"


def test_what_is_swept_is_ours_alone(tmp_path: Path) -> None:
    others = [".a.new", ".a.0.NEW", "a.0.new", ".a.1000.new", ".a.b"]
    for name in (*others, ".a.0.new", ".b.7.new", f".c.{'0' * 32}.new"):
        (tmp_path / name).touch()
    assert [temporary_of(name) for name in (".a.b.12.new", ".a.new")] == ["a.b", None]
    clean_leftovers(tmp_path, {"a"}.__contains__)
    assert names(tmp_path) == sorted([*others, ".b.7.new", f".c.{'0' * 32}.new"])
    clean_leftovers(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_failure_in_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), replacing(tmp_path / "out", bool) as new:
            (new / "half").touch()
            raise KeyError
        with pytest.raises(KeyError), written(tmp_path / "file") as file:
            file.write(b"half")
            raise KeyError
        left = names(tmp_path)
        assert left in ([], ["file", "out"])
        with replacing(tmp_path / "out", bool) as new:
            (new / "whole").touch()
        write_text(tmp_path / "file", "whole")
    assert names(tmp_path / "out") == ["whole"] and (tmp_path / "file").read_text() == "whole"


@pytest.mark.parametrize("moment", ["aside", "there"])
def test_a_kill_while_a_folder_takes_anothers_place(tmp_path: Path, moment: str) -> None:
    """Then one of them is there, whole: the one before, or the new one."""
    out, before = tmp_path / "out", tmp_path / ".out.before"
    before.mkdir()
    (before / "old").touch()
    (tmp_path / ".out.new").mkdir()
    if moment == "there":
        out.mkdir()
        (out / "new").touch()

    def found(folder: Path) -> None:
        seen.append(names(folder) if folder.exists() else [])

    seen: list[list[str]] = []
    with replacing(out, found):
        assert seen[1] == (["old"] if moment == "aside" else ["new"])
    assert names(tmp_path) == ["out"] and names(out) == []


def test_a_system_without_locks_writes_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems have none: nothing is taken over there, and nothing shared by mistake."""
    from glimmer_ref.disk import lock

    monkeypatch.setattr(lock, "lock", lambda descriptor: None)
    with written(tmp_path / "file") as one, written(tmp_path / "file") as other:
        one.write(b"one")
        other.write(b"other")
        assert len(names(tmp_path)) == 2
    assert (tmp_path / "file").read_bytes() == b"one", "the last to end"
    with lock_folder(tmp_path, bool):
        pass
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="descriptors are limited by setrlimit")
def test_the_limit_of_open_files_is_named(tmp_path: Path) -> None:
    import resource

    assert max_open_files() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    code = """
import resource, sys, os
from glimmer_ref.disk.read import read_text
from glimmer_ref.errors import InputError
from glimmer_ref.params.safetensors_io import map_tensors
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
files = [os.dup(0) for _ in range(40 - len(os.listdir('/dev/fd')) + 1 - {})]
for read in (read_text, map_tensors):
    try:
        read(sys.argv[1])
    except InputError as error:
        assert 'Too many open files, of which this process may have 40 (ulimit -n)' in str(error), error
"""
    from glimmer_ref.params.safetensors_io import write_tensors

    write_tensors(tmp_path / "x.safetensors", {})
    for free in (0, 1, 2):  # at each of the places where a file is opened
        words: list[Any] = [sys.executable, "-c", code.format(free), tmp_path / "x.safetensors"]
        subprocess.run(words, check=True, timeout=60)
