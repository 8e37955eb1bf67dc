"""Checks another implementation's tensors against a golden case, and names the first stage that differs.

This file needs only NumPy, so it can be copied without the package. On the command line:

    python check.py CASE_DIR OUTPUTS.safetensors        (or OUTPUTS.npz)

Exit code 0: all given tensors are right; 1: a tensor differs or its name is unknown; 2: nothing could be checked.
docs/golden-format.md specifies cases, outputs, errors, tolerances, and how known mistakes are recognised.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import io
import json
import math
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

CASES = Path(__file__).parent / "cases"
FORMAT, FORMAT_VERSION = "glimmer_ref golden", 1
FILES = ("inputs.safetensors", "weights.safetensors", "expected.safetensors")
KEYS = ("case", "pins", "licence", "kind", "config", "tensors", "mistakes")
PRECISIONS = ("float64", "float32", "tf32", "bfloat16")
FLOATS = ("float16", "bfloat16", "float32", "float64")
TYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4", "U64": "<u8"}
TYPES |= {"I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
MOST_FILE_BYTES, MOST_HEADER_BYTES, MOST_TENSORS = 2**30, 16 * 2**20, 10_000
FEWEST_NUMBERS = 8  # fewer numbers do not show to which type they are rounded
MOST_UNKNOWN = 20  # maximum number of unknown names that are compared with the known ones
# Decades of NMSE. A mistake that is made in the same way as a known one is within SAME. A known mistake may be the
# cause if it is within SIMILAR and all others are CLEARER times further away.
SAME, SIMILAR, CLEARER = 0.02, 0.1, 3.0
MALFORMED = (TypeError, LookupError, AttributeError, OverflowError, RecursionError)


OTHER_FORMATS = (  # first bytes of files that are often given by mistake
    (b"PK", "a zip archive, PyTorch's, perhaps"),
    (b"\x93NUMPY", "one array as .npy"),
    (b"\x80", "a pickle"),
    (b"\x1f\x8b", "a file packed by gzip"),
    (b"\x89HDF", "an HDF5 file"),
)


def plain(name: str) -> str:
    """A name from an untrusted file, in a form that is safe to print."""
    return json.dumps(name)[1:-1][:80]


def shown(line: str) -> str:
    """A line in ASCII. Control characters and all other characters are escaped."""
    return "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in line)


class Unusable(ValueError):
    """Input that cannot be checked. The message is one line: what is wrong, what was expected, what was given."""

    def __str__(self) -> str:
        return shown(" ".join("{}: expected {}; got {}".format(*self.args).split()))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name that occurs twice")
    return dict(pairs)


def _tensor(name: str, entry: Any, data: bytes, at: int) -> np.ndarray:
    """One tensor. It must begin where the previous tensor ended."""
    tag, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if tag not in TYPES:
        raise ValueError(f"{plain(name)} of type {plain(tag)}, which is none of {', '.join(TYPES)}")
    sound = all(type(n) is int and n >= 0 for n in (*shape, end)) and begin == at and end <= len(data)
    if not sound or end - begin != math.prod(shape) * np.dtype(TYPES[tag]).itemsize:
        raise ValueError(f"{plain(name)} {tag} {shape} in bytes {begin} to {end} of {len(data)}")
    x = np.frombuffer(data[begin:end], TYPES[tag]).reshape(shape)
    return (x.astype(np.uint32) << 16).view(np.float32) if tag == "BF16" else x


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file; bfloat16, which NumPy lacks, becomes float32.

    Raises:
        Unusable: the file does not exist, is truncated or damaged, or has a huge header, a repeated name or an unknown
            type.
    """
    path = Path(path)
    try:
        if not path.is_file() or path.stat().st_size > MOST_FILE_BYTES:
            nothing = "a pipe or a device" if path.exists() else "no such file"
            got = f"{path.stat().st_size} bytes" if path.is_file() else nothing
            raise Unusable(path, f"a safetensors file of at most {MOST_FILE_BYTES} bytes", got)
        raw = path.read_bytes()
    except OSError as error:
        raise Unusable(path, "a readable file", error.strerror) from None
    other = next((name for begin, name in OTHER_FORMATS if raw.startswith(begin)), None)
    if other is not None and raw[8:9] != b"{":  # a header would begin there, and its length can have any bytes
        raise Unusable(path, "a safetensors file", f"what looks like {other}")
    length = int.from_bytes(raw[:8], "little")
    if len(raw) > 8 and length > MOST_HEADER_BYTES and all(9 <= byte < 127 for byte in raw[:64]):
        raise Unusable(path, "a safetensors file", "what looks like text: JSON or CSV, perhaps")
    if length > MOST_HEADER_BYTES or 8 + length > len(raw):
        got = f"one of {length} bytes in a file of {len(raw)}"
        raise Unusable(path, f"a whole safetensors header of at most {MOST_HEADER_BYTES} bytes", got)
    try:
        header = json.loads(raw[8 : 8 + length].decode(), object_pairs_hook=_once)
        header.pop("__metadata__", None)
        if len(header) > MOST_TENSORS:
            raise ValueError(f"{len(header)} tensors, more than {MOST_TENSORS}")
        data, at, result = raw[8 + length :], 0, {}
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            result[name] = _tensor(name, entry, data, at)
            at = entry["data_offsets"][1]
        if at != len(data):
            raise ValueError(f"{len(data)} bytes of data where {at} are described")
    except (ValueError, *MALFORMED) as error:
        got = str(error)[:200] if isinstance(error, ValueError) else "a header of another form"
        raise Unusable(path, "a whole safetensors file", got) from None
    return result


def read_outputs(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file, or of an .npz whatever its name is.

    Raises:
        Unusable: the file is neither, or is damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") if path.is_file() else io.BytesIO() as start:
            if start.read(4) != b"PK\x03\x04":
                return read_tensors(path)
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
        if not all(member.filename.endswith(".npy") for member in members):
            return read_tensors(path)  # another archive, which is no safetensors file either
        size = sum(member.file_size for member in members)
        if size > MOST_FILE_BYTES or len(members) > MOST_TENSORS:
            expected = f"an .npz of at most {MOST_FILE_BYTES} bytes and {MOST_TENSORS} arrays"
            raise Unusable(path, expected, f"{size} bytes in {len(members)} arrays")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except OSError as error:
        raise Unusable(path, "a readable file", error.strerror or "one that is damaged") from None
    except Exception as error:  # NumPy's reader raises errors of many types for damaged files, even SyntaxError
        if isinstance(error, Unusable):
            raise
        raise Unusable(path, "a whole .npz of arrays of numbers", f"{type(error).__name__} {error}"[:200]) from None


def outputs_of(case: str, folder: Path) -> Path:
    """The file of a case's outputs in a folder: <case>.safetensors, or <case>.npz if only that exists."""
    first, other = folder / f"{case}.safetensors", folder / f"{case}.npz"
    return other if other.is_file() and not first.exists() else first


def rounded_to(x: np.ndarray) -> str:
    """The type to which all finite numbers are rounded: "bfloat16", "float16" or ""."""
    with np.errstate(all="ignore"):
        single = x.astype(np.float32)
        if not (single == x)[np.isfinite(x)].all():
            return ""
        if not (np.ascontiguousarray(single).view(np.uint32) & 0xFFFF).any():
            return "bfloat16"
        return "float16" if np.array_equal(single.astype(np.float16), single, equal_nan=True) else ""


@dataclass(frozen=True)
class Verdict:
    """The result for one tensor.

    Args:
        status: "ok", "differs" or "not given".
        nmse, max: the errors; None if nothing could be compared.
        tolerance: the largest allowed errors; None for integers, which must be equal.
        note: the layout in which the tensor was compared, or why it cannot be right.
    """

    name: str
    status: str
    tolerance: dict[str, float] | None
    nmse: float | None = None
    max: float | None = None
    note: str = ""

    def __str__(self) -> str:
        said = ""
        if self.nmse is not None and self.tolerance:
            allowed = self.tolerance
            said = f"NMSE {self.nmse:.1e} of {allowed['nmse']:.1e}, max {self.max:.1e} of {allowed['max']:.1e}  "
        return f"{self.status:10}{self.name:43} {said}{self.note}".rstrip()


def errors(given: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """NMSE, sum (a-b)^2 / sum b^2, and max |a-b| / max |b|; infinite if b is zero and a is not."""
    with np.errstate(all="ignore"):
        b = expected.astype(np.float64)
        off, scale = np.abs(given.astype(np.float64) - b), np.abs(b).max(initial=0)
        if not off.any():
            return 0.0, 0.0
        if not scale:
            return math.inf, math.inf
        # The division by the scale comes first, so that no square is outside the range of float64.
        return float(((off / scale) ** 2).sum() / ((b / scale) ** 2).sum()), float(off.max() / scale)


def layouts(given: np.ndarray, mask: np.ndarray | None, shape: tuple[int, ...]) -> Iterator[tuple[str, np.ndarray]]:
    """The ways to bring an array into a shape, the simplest first, each with a description."""
    for order in permutations(range(given.ndim)) if given.ndim <= 4 else ():
        x, done = given.transpose(order), ["transposed"] if order != tuple(range(given.ndim)) else []
        if mask is not None:
            if x.shape[:2] != mask.shape:
                continue
            x = x[mask]
            done.append("without its padding")
        if x.size == math.prod(shape):
            done += [f"reshaped from {list(x.shape)}"] if x.shape != shape else []
            yield ", ".join(done), x.reshape(shape)


def _candidates(
    name: str, given: Mapping[str, Any], expected: Mapping[str, np.ndarray]
) -> tuple[list[tuple[str, np.ndarray]], str]:
    """The layouts in which a given tensor can be compared with the expected tensor, and what is wrong in all of them.

    Raises:
        ValueError: there is no such layout; the message states the reason.
    """
    x, want, lengths = np.asarray(given[name]), expected[name], expected.get(f"{name}.lengths")
    mask, said = given.get(f"{name}.mask"), given.get(f"{name}.lengths")
    if x.dtype.name not in FLOATS if want.dtype.kind == "f" else x.dtype.kind not in "iu":
        raise ValueError(f"{x.dtype} values; expected {'floats' if want.dtype.kind == 'f' else 'whole numbers'}")
    if mask is not None:
        mask = np.asarray(mask)
        if mask.ndim != 2 or not np.isin(mask, (0, 1)).all():
            raise ValueError("its mask is not zeros and ones [b n]")
        mask = mask.astype(bool)
        said = mask.sum(axis=1) if said is None else said
    wrong = ""
    if lengths is not None and said is not None and not np.array_equal(said, lengths):
        wrong = f"sequences of {np.ravel(said)[:20].tolist()} rows; expected {lengths.tolist()}"
    ways = list(layouts(x, mask, want.shape))
    if not ways:
        if wrong:
            raise ValueError(wrong)
        hint = "" if lengths is None or mask is not None else f"; if it is padded, give {name}.mask [b n] too"
        raise ValueError(f"shape {list(x.shape)}; expected {list(want.shape)}{hint}")
    bad = int((~np.isfinite(ways[0][1].astype(np.float64))).sum())
    if bad:
        raise ValueError(f"{bad} of {want.size} values are NaN or infinite")
    return ways, wrong


def check_tensor(
    name: str, given: Mapping[str, Any], expected: Mapping[str, np.ndarray], tolerance: dict[str, float] | None
) -> Verdict:
    """Compares one tensor with the expected one, in the simplest layout in which it is right, or in the closest one."""
    if name not in given:
        return Verdict(name, "not given", tolerance)
    try:
        ways, wrong = _candidates(name, given, expected)
    except (ValueError, TypeError, RuntimeError) as error:  # TypeError and RuntimeError: it cannot become a NumPy array
        return Verdict(name, "differs", tolerance, note=" ".join(str(error).split())[:200])
    want, verdicts = expected[name], []
    for done, x in ways:
        nmse, most = errors(x, want)
        right = nmse <= tolerance["nmse"] and most <= tolerance["max"] if tolerance else bool((x == want).all())
        right = right and not wrong
        note = f"{'matches' if right else 'compared'} {done}" if done else ""
        if wrong:
            note = wrong[:200]
        elif not tolerance and not right:
            note = f"{x.ravel()[:32].tolist()}; expected {want.ravel()[:32].tolist()} {note}".strip()
        verdicts.append(Verdict(name, "ok" if right else "differs", tolerance, nmse, most, note))
        if right:
            return verdicts[-1]
    return verdicts[0] if want.shape == np.shape(given[name]) else min(verdicts, key=lambda v: v.nmse or 0.0)


def _gaps(mistake: Mapping[str, Any], verdicts: list[Verdict]) -> list[float]:
    """Decades between a mistake's NMSE and the measured NMSE, for tensors where either is above the tolerance.

    Attention probabilities are skipped: the faulty runs from which a case's `mistakes` come recorded right ones.
    """
    result, known, reached = [], mistake["errors"], False
    for v in verdicts:
        reached = reached or v.name == mistake["first"]
        if v.status == "not given" or ".probs." in v.name or (reached and v.name not in known):
            continue
        floor = v.tolerance["nmse"] if v.tolerance else 1e-16
        here = max(known[v.name] if reached else -math.inf, math.log10(floor))
        found = math.log10(max(v.nmse, floor)) if v.nmse is not None else math.inf
        if max(here, found) > math.log10(floor):
            result.append(abs(here - found))
    return result


def causes(mistakes: list[dict[str, Any]], verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """The known mistake that explains the errors clearly better than the next one.

    If several explain them exactly, and cannot be distinguished, these are returned, up to three.
    """
    fits = []
    for mistake in mistakes:
        gaps = _gaps(mistake, verdicts)
        if gaps:
            fits.append((sum(gaps) / len(gaps), gaps[0], mistake))
    fits.sort(key=lambda fit: fit[0])
    mean = next((mean for mean, first, _ in fits if max(mean, first) <= SIMILAR), None)
    if mean is None or all(v.status != "differs" for v in verdicts):
        return []  # with a low precision, a small mistake is within the tolerance
    near = [mistake for other, _, mistake in fits if other <= max(CLEARER * mean, SAME)]
    return near[:3] if mean <= SAME or len(near) == 1 else []


TIED = "the scores of both are equal within the tolerance; of equal scores, the earlier passage comes first"


@dataclass(frozen=True, eq=False)
class Case:
    """A case, read from a folder whose files have the hashes that case.json states.

    Args:
        about: the content of case.json.
        expected: the expected tensors, with `<name>.lengths` beside the ragged ones.
    """

    folder: Path
    about: dict[str, Any]
    expected: dict[str, np.ndarray]

    def read(self, part: str) -> dict[str, np.ndarray]:
        """The tensors of its "inputs" or its "weights"."""
        return read_tensors(self.folder / f"{part}.safetensors")

    def verdicts(self, given: Mapping[str, Any], precision: str) -> list[Verdict]:
        """A verdict for each of its tensors, in forward order."""
        floats = {name for name, x in self.expected.items() if x.dtype.kind == "f"}
        allowed = {e["name"]: e["tolerance"][precision] if e["name"] in floats else None for e in self.about["tensors"]}
        found = [check_tensor(name, given, self.expected, tolerance) for name, tolerance in allowed.items()]
        return [replace(v, note=f"{v.note}; {TIED}") if self._tied(v, given, allowed) else v for v in found]

    def _tied(self, verdict: Verdict, given: Mapping[str, Any], allowed: Mapping[str, dict[str, float] | None]) -> bool:
        """Whether other passages were selected whose scores are the expected ones within the tolerance."""
        scores, tolerance = self.expected.get("scores"), allowed.get("scores")
        if verdict.name != "selected" or verdict.nmse is None or scores is None or not tolerance:
            return False
        chosen, want = np.ravel(given["selected"]), self.expected["selected"]
        known = set(chosen.tolist()) & set(range(len(scores)))
        if verdict.status == "ok" or not len(known) == chosen.size == want.size:  # a padded one has more
            return False
        return errors(scores[chosen], scores[want])[1] <= tolerance["max"]


def bundled() -> list[str]:
    """Names of the cases in the folder beside this file."""
    return sorted(path.parent.name for path in CASES.glob("*/case.json"))


def _load(folder: Path) -> Case:
    """A case from its folder, after a check of its hashes."""
    about = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    if (about["format"], about["format_version"]) != (FORMAT, FORMAT_VERSION):
        got = f"{about['format']!r} {about['format_version']!r}"
        raise Unusable(folder / "case.json", f"format {FORMAT!r} {FORMAT_VERSION}", got)
    for name in FILES:
        stated, found = about["files"][name]["sha256"], hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != stated:
            raise Unusable(folder / name, f"SHA-256 {stated}", f"{found}: changed or damaged?")
    if not (all(key in about for key in KEYS) and all(m["name"] + m["says"] for m in about["mistakes"])):
        raise ValueError(f"lacking one of {', '.join(KEYS)}")
    expected = read_tensors(folder / FILES[2])
    for refusal in about.get("refusals", []):
        about["tensors"].append({"name": f"refused.{refusal['name']}", "shape": [1]})
        expected[f"refused.{refusal['name']}"] = np.ones(1, np.int64)
    return Case(folder, about, expected)


def open_case(case: str | Path) -> Case:
    """A case from its folder, or from its name if it is in the folder beside this file.

    Raises:
        Unusable: the case does not exist, has another format or version, a file has another hash than case.json states,
            or the expected tensors do not fit case.json.
    """
    folder = CASES / case if str(case) in bundled() else Path(case)
    about = folder / "case.json"
    if not about.is_file():
        raise Unusable(case, f"a folder with a case.json, or one of: {', '.join(bundled()) or 'none here'}", "neither")
    try:
        result = _load(folder)
        for precision in PRECISIONS:
            verdicts = result.verdicts(result.expected, precision)
            wrong = [v.name for v in verdicts if v.status != "ok"] + causes(result.about["mistakes"], verdicts)
            if wrong:
                raise Unusable(about, f"expected tensors that are right in {precision}", f"{wrong[0]}, which is not")
    except Unusable:
        raise
    except OSError as error:
        raise Unusable(error.filename, "a readable file", error.strerror) from None
    except (ValueError, *MALFORMED) as error:
        raise Unusable(about, "a case of the format", f"{type(error).__name__} {error}") from None
    return result


@dataclass(frozen=True)
class Report:
    """The results for all tensors of a case.

    Args:
        tensors: in forward order.
        unknown: given names that the case does not have, each with a similar name of the case, or "".
        causes: the known mistakes of the case that explain the differences.
        rounded: "float16" or "bfloat16" if all tensors that differ look like numbers of this type.
    """

    case: str
    precision: str
    tensors: list[Verdict]
    unknown: dict[str, str]
    causes: list[dict[str, Any]]
    rounded: str = ""

    @property
    def first(self) -> Verdict | None:
        """The first stage that differs."""
        return next((v for v in self.tensors if v.status == "differs"), None)

    @property
    def code(self) -> int:
        """0 if all given tensors are right, 1 if one differs or is unknown, 2 if none was given."""
        if all(v.status == "not given" for v in self.tensors):
            return 2
        return 1 if self.first or self.unknown else 0

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; infinite errors are null."""
        result = asdict(self) | {"first": self.first and self.first.name, "code": self.code}
        for v in result["tensors"]:
            v.update({measure: None for measure in ("nmse", "max") if v[measure] == math.inf})
        return result

    def unknown_line(self, name: str) -> str:
        """The line about a name that the case does not have."""
        meant = self.unknown[name]
        return f"unknown   {plain(name)}" + (f"; did you mean {meant}?" if meant else "")

    def rounded_line(self) -> str:
        """The line about numbers that look like another type."""
        level = "bfloat16" if self.rounded == "bfloat16" else "tf32, whose mantissa has as many bits"
        return f"these numbers look like {self.rounded}: give float32, or compare them with --precision {level}"

    def lines(self, brief: bool = False) -> Iterator[str]:
        """The report as text: one line per tensor, of which only the first that differs is brief; the conclusion."""
        yield from map(str, [v for v in (self.first,) if v] if brief else self.tensors)
        yield from map(self.unknown_line, list(self.unknown)[: 1 if brief else MOST_UNKNOWN])
        if self.first:
            if not brief:
                yield f"FIRST STAGE THAT DIFFERS: {self.first.name}"
            if self.rounded:
                yield self.rounded_line()
            for cause in self.causes:
                yield f"{'possible' if len(self.causes) > 1 else 'likely'} cause: {cause['says']} ({cause['name']})"
            if not self.causes and not self.rounded:
                yield "likely cause: none; no known mistake has these errors"
        counts = ", ".join(f"{sum(v.status == s for v in self.tensors)} {s}" for s in ("ok", "differs", "not given"))
        verdict = ("right", "NOT RIGHT", "NOTHING GIVEN")[self.code]
        yield f"{self.case} in {self.precision}: {verdict}: {counts}, {len(self.unknown)} unknown"


def _rounded(given: Mapping[str, Any], expected: Mapping[str, np.ndarray], verdicts: list[Verdict]) -> str:
    """The type to which all float tensors that differ are rounded, though what is expected is not; otherwise ""."""
    names = [v.name for v in verdicts if v.status == "differs" and v.nmse is not None and v.tolerance]
    names = [name for name in names if expected[name].size >= FEWEST_NUMBERS and not rounded_to(expected[name])]
    types = {rounded_to(np.asarray(given[name])) for name in names}
    return types.pop() if len(types) == 1 else ""


def check(case: str | Path | Case, outputs: str | Path | Mapping[str, Any], precision: str = "float32") -> Report:
    """Checks outputs, which may be any subset of a case's tensors, against the case.

    Args:
        outputs: arrays by name, a safetensors file or an .npz, or a folder with <case>.safetensors or <case>.npz.
        precision: selects the tolerances, one of PRECISIONS.

    Raises:
        Unusable: the case or the file cannot be read.
    """
    known = case if isinstance(case, Case) else open_case(case)
    if precision not in PRECISIONS:
        raise Unusable("precision", f"one of {', '.join(PRECISIONS)}", repr(precision))
    if isinstance(outputs, str | Path):
        path = Path(outputs)
        outputs = read_outputs(outputs_of(known.about["case"], path) if path.is_dir() else path)
    if not isinstance(outputs, Mapping):
        raise Unusable("outputs", "arrays by name", type(outputs).__name__)
    tensors = known.verdicts(outputs, precision)
    names = [v.name for v in tensors]
    companions = {name + part for name in names if name in outputs for part in ("", ".lengths", ".mask")}
    unknown = {str(name): "" for name in outputs if name not in companions}
    for name in list(unknown)[:MOST_UNKNOWN]:
        unknown[name] = (difflib.get_close_matches(name, names, 1) or [""])[0]
    rounded = _rounded(outputs, known.expected, tensors) if precision in PRECISIONS[:2] else ""
    return Report(known.about["case"], precision, tensors, unknown, causes(known.about["mistakes"], tensors), rounded)


def main(argv: list[str] | None = None) -> int:
    """Checks one file of outputs, prints the report, and returns the exit code."""
    parser = argparse.ArgumentParser(description="Check tensors against a golden case of GLIMMER.")
    parser.add_argument("case", metavar="CASE_DIR", help="folder with case.json")
    parser.add_argument("outputs", metavar="OUTPUTS", help="a safetensors file or an .npz")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="what the outputs were computed in")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--brief", action="store_true", help="print only the first difference and its cause")
    args = parser.parse_args(argv)
    try:
        report = check(args.case, args.outputs, args.precision)
    except Unusable as error:
        print(f"check: error: {error}", file=sys.stderr)
        return 2
    said = (
        [json.dumps(report.to_json(), indent=1, allow_nan=False)] if args.json else map(shown, report.lines(args.brief))
    )
    print("\n".join(said))
    return report.code


if __name__ == "__main__":
    sys.exit(main())
