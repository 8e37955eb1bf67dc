"""Where results go: whatever the name of an output leads to, it is written to or refused, and never replaced."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from glimmer_ref.disk.write import write_text

LINES = '{"id": "a", "title": "Ada", "text": "Ada lives in Rome."}\n{"id": "b", "title": "Bo", "text": "Bo sails."}\n'
# Each writes one file, whose name comes last; and how the file begins.
COMMANDS: dict[str, tuple[list[str], bytes]] = {
    "trace": (["trace", "--inputs", "ids.json", "--ops", "numpy", "--only", "scores", "--out"], b""),
    "picture": (["flops", "--plot"], b"\x89PNG"),
    "answer": (["ask", "Where does Ada live?", "--passages", "p.jsonl", "--ops", "numpy", "--plot"], b"\x89PNG"),
    "page": (["flops", "page"], b"<!doctype html>"),
    "junit": (["golden", "check", "ops", "none", "--junit"], b"<?xml"),
    "retrieve": (["retrieve", "--questions", "q.jsonl", "--index", "index", "--k", "1", "--out"], b'{"input"'),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> Path:
    """A folder with what these commands read."""
    monkeypatch.chdir(tmp_path)
    write_text("p.jsonl", LINES)
    write_text("q.jsonl", '{"input": "Where does Ada live?"}\n')
    write_text("ids.json", json.dumps({"question": [5, 1], "passages": [[7, 1], [8, 1]]}))
    from glimmer_ref.params.safetensors_io import write_tensors

    write_tensors("none", {})
    return tmp_path


def _words(name: str, out: str, run: Any) -> list[str]:
    if name == "retrieve":
        assert run("index", "build", "p.jsonl", "index", "--bm25")[0] == 0
    return [*COMMANDS[name][0], out]


@pytest.mark.parametrize("name", COMMANDS)
def test_files_folders_and_links(here: Path, run: Any, name: str) -> None:
    words = _words(name, "out", run)
    assert run(*words)[0] in (0, 2 if name == "junit" else 0)
    assert Path("out").read_bytes().startswith(COMMANDS[name][1])
    assert not [x for x in os.listdir() if x.startswith(".out")]
    os.mkdir("folder")
    os.symlink("loop", "loop")
    for place, said in {
        "folder": "a folder",
        "/": "a folder",
        "loop": "symbolic links",
        "no/x": "no such f",
    }.items():
        code, _, err = run(*words[:-1], place)
        assert code == 2
        assert said in err.splitlines()[-1]
    assert os.path.islink("loop") and os.listdir("folder") == []


@pytest.mark.parametrize("name", ["trace", "retrieve"])
def test_a_place_is_refused_before_the_work(here: Path, run: Any, name: str) -> None:
    """Of what there is to read there is nothing, and yet it is the place that is told."""
    os.remove("q.jsonl" if name == "retrieve" else "ids.json")
    for place in (".", "no/x", "p.jsonl/x"):
        code, _, err = run(*COMMANDS[name][0], place)
        assert code == 2 and err.startswith(f"glimmer-ref: error: {place}: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", COMMANDS)
def test_pipes_and_devices(here: Path, run: Any, name: str) -> None:
    words = _words(name, "pipe", run)
    os.mkfifo("pipe")
    assert run(*words)[0] == 2  # nobody reads
    got: list[bytes] = []
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def read() -> None:
        with open(reader, "rb") as file:
            got.append(file.read())

    thread = threading.Thread(target=read, daemon=True)
    keep = os.open("pipe", os.O_WRONLY)  # so that the reader waits
    thread.start()
    assert run(*words)[0] in (0, 2 if name == "junit" else 0)
    os.close(keep)
    thread.join(60)
    assert got and got[0].startswith(COMMANDS[name][1]) and len(got[0]) > 8
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    try:
        os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        open("null", "wb").close()
    except PermissionError:
        pytest.skip("devices can be made by root only")
    assert run(*words[:-1], "null")[0] in (0, 2 if name == "junit" else 0)
    assert stat.S_ISCHR(os.stat("null").st_mode)
