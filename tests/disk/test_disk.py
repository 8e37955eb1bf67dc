"""Files read within bounds and written whole or not at all, whatever a name leads to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from glimmer_ref.disk.read import open_regular, parse_json, read_json, read_text
from glimmer_ref.disk.write import write_text, written
from glimmer_ref.errors import MAX_LENGTH, InputError, brief, shown


def test_control_characters_are_escaped_in_every_error() -> None:
    error = InputError("tensor a\x1b[31mb\x07\0", "a name", "c\nd\u202e")
    assert str(error) == r"tensor a\x1b[31mb\x07\x00: expected a name; got c d\u202e"
    assert shown("Zoë  राजधानी 東京\t\U0001f600") == "Zoë राजधानी 東京 \U0001f600"


def test_an_error_stays_short_whatever_came() -> None:
    assert str(InputError("a", "b", "c" * MAX_LENGTH, "d")) == f"a: expected b; got {'c' * MAX_LENGTH}; d"
    for got in ("c" * (MAX_LENGTH + 1), "\x1b" * MAX_LENGTH, "c" * 10**7):
        said = str(InputError("a", "b", got, "d"))
        assert len(said) == len("a: expected b; got ; d") + MAX_LENGTH and said.endswith("..; d")
    assert brief("x" * 58) == "'" + "x" * 58 + "'" and brief("x" * 59) == "'" + "x" * 57 + ".."
    assert brief([1, 2, 3], 8) == "[1, 2,.." and brief(None) == "None"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xff\xfe{\0}\0", "UTF-16"),
        ('{"a": "Zoë"}'.encode("latin-1"), "Latin-1"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[NaN]", "NaN, which JSON does not have"),
        (b"[1e999]", "1e999, which is too large"),
        (b"[" + b"9" * 5000 + b"]", "JSON; got"),
        (b"{} {}", "more than one value"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_json_is_refused(raw: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(raw)
    with pytest.raises(InputError, match=said):
        read_json(tmp_path / "x.json")
    with pytest.raises(InputError, match=said):
        parse_json(raw, "x")


def test_a_mark_at_the_beginning_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'\xef\xbb\xbf{"a": 1.5}')
    assert read_json(tmp_path / "x.json") == {"a": 1.5}


def test_only_regular_files_within_bounds_are_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    os.symlink("loop", tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: to open it would wait
    cases = {"large": "at most 10 bytes; got 11", "loop": "symbolic links", "pipe": "a pipe", "none": "no such f"}
    for name, said in cases.items():
        with pytest.raises(InputError, match=said):
            read_text(tmp_path / name, 10)
    for name, said in {
        "": "an empty one",
        str(tmp_path): "a folder",
        "/dev/zero": "a device",
        "a\0b": "no name",
    }.items():
        with pytest.raises(InputError, match=said), open_regular(name):
            pass


def _to_a_folder(path: Path) -> None:
    path.mkdir()


def _to_itself(path: Path) -> None:
    path.symlink_to(path)


def _to_a_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [_to_a_folder, _to_itself, _to_a_pipe])
def test_what_cannot_be_written_to_stays(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "out")
    before = os.lstat(tmp_path / "out").st_mode
    with pytest.raises(InputError, match="out: expected a "):
        write_text(tmp_path / "out", "x")
    assert os.lstat(tmp_path / "out").st_mode == before
    assert os.listdir(tmp_path) == ["out"]


def _device(path: Path, minor: int) -> Path:
    """A device of the test's own: the machine's would be lost if the test failed."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        open(path, "wb").close()
    except PermissionError:
        pytest.skip("devices can be made by root only")
    return path


def test_a_device_and_a_pipe_are_written_to_and_stay(tmp_path: Path) -> None:
    null, full = _device(tmp_path / "null", 3), _device(tmp_path / "full", 7)
    write_text(null, "x")
    with pytest.raises(InputError, match="No space left"):
        write_text(full, "x")
    assert stat.S_ISCHR(os.stat(null).st_mode) and stat.S_ISCHR(os.stat(full).st_mode)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "heard")
    assert os.read(reader, 9) == b"heard"
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


def test_a_link_is_followed_and_its_target_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("before")
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(RuntimeError), written(tmp_path / "link") as file:
        file.write(b"half")
        raise RuntimeError
    assert (tmp_path / "there").read_text() == "before"
    write_text(tmp_path / "link", "after")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "there").read_text() == "after"
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]
    for path, said in {"": "an empty one", "/": "a folder", tmp_path / "no" / "x": "no such f"}.items():
        with pytest.raises(InputError, match=said):
            write_text(path, "x")
    with pytest.raises(InputError, match="surrogate"):
        write_text(tmp_path / "there", "\ud800")
