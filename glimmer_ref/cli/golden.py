"""glimmer-ref golden: check another implementation against golden cases, and list, show or make them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from ..disk.write import written
from ..errors import InputError
from ..golden import check
from ..golden.adapters import check_command
from ..golden.show import lines
from ..golden.starter import LANGUAGES, command, write
from ..terminal import note, say, say_json
from . import options
from .output import write_after

CASE = "name of a bundled case, or a folder with case.json"


def add(commands: Any) -> None:
    """The command's options."""
    parser = options.add_action(commands, "golden", "check another implementation against golden cases")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_check(actions)
    listing = options.add_action(actions, "list", "list the bundled cases, and what each checks")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=run_list)
    show = options.add_action(actions, "show", "show a case's inputs, config and names of arrays")
    show.add_argument("case", metavar="CASE", help=CASE)
    show.set_defaults(run=run_show)
    starter = options.add_action(
        actions, "starter", "write a skeleton that reads a case and writes outputs, for you to fill in"
    )
    starter.add_argument(
        "--lang", choices=tuple(LANGUAGES), default="python", help="language or framework (default python: NumPy)"
    )
    starter.add_argument("folder", metavar="DIR", help="folder for the skeleton; no file in it is overwritten")
    starter.set_defaults(run=run_starter)
    exporting = options.add_action(actions, "export", "copy the cases into a folder, with the order to do them in")
    exporting.add_argument("folder", metavar="DIR", help="a folder; no file in it is overwritten")
    exporting.set_defaults(run=run_export)
    make = options.add_action(actions, "make", "make the cases again, with their tolerances")
    make.add_argument("cases", metavar="CASE", nargs="*", help="names of cases (default: all)")
    make.add_argument(
        "--out", metavar="DIR", default=check.CASES, help="folder for the cases (default: that of the bundled cases)"
    )
    make.add_argument("--mistakes", action="store_true", help="only the errors of known mistakes, in cases that exist")
    make.set_defaults(run=run_make)


def add_check(actions: Any) -> None:
    """The options of golden check."""
    parser = actions.add_parser(
        "check",
        help="compare an implementation's tensors with a case",
        description="Check each tensor of an implementation, and name the first stage that differs. Exit code 0: all "
        "given tensors are right; 1: some differ or are unknown; 2: nothing could be checked.",
    )
    parser.add_argument("case", metavar="CASE", help=CASE)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "outputs",
        metavar="OUTPUTS",
        nargs="?",
        help="a safetensors file or an .npz, or a folder with <case>.safetensors",
    )
    source.add_argument(
        "--run",
        dest="program",
        metavar="COMMAND",
        help="command that writes the outputs, such as 'my_program {case} {out}'",
    )
    parser.add_argument(
        "--precision",
        choices=check.PRECISIONS,
        default="float32",
        help="precision in which the tensors were computed (default float32)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--brief", action="store_true", help="print only the first difference and its cause")
    parser.add_argument("--junit", metavar="FILE", help="also write a JUnit report with one test case for each tensor")
    parser.set_defaults(run=run_check)


@contextmanager
def refused() -> Iterator[None]:
    """Turn the checker's error for unusable input, which imports nothing of this package, into an InputError."""
    try:
        yield
    except check.Unusable as error:
        raise InputError(*map(str, error.args)) from None


def run_check(args: argparse.Namespace) -> int:
    """Check, print the report, and return its code."""
    with refused():
        if args.program is None:
            report = check.check(args.case, args.outputs, args.precision)
        else:
            report = check_command(args.case, args.program, args.precision)
    with write_after(lambda: _write_junit(report, args.junit)):
        if args.json:
            say_json(report.to_json())
        else:
            say(*report.lines(args.brief))
    return report.code


def _write_junit(report: check.Report, path: str | None) -> None:
    if path:
        with written(path) as file:
            ElementTree.ElementTree(junit(report)).write(file, encoding="utf-8", xml_declaration=True)
        note(f"glimmer-ref: wrote {path}")


def junit(report: check.Report) -> ElementTree.Element:
    """The report for continuous integration: one test case for each tensor and each unknown name."""
    suite = ElementTree.Element("testsuite", name=f"golden.{report.case}")

    def test(name: str, kind: str = "", message: str = "") -> None:
        element = ElementTree.SubElement(suite, "testcase", classname=f"golden.{report.case}", name=name)
        if kind:
            ElementTree.SubElement(element, kind, message=message)

    for v in report.tensors:
        test(v.name, {"differs": "failure", "not given": "skipped"}.get(v.status, ""), str(v))
    for name in report.unknown:
        test(check.plain(name), "failure", report.unknown_line(name))
    if report.code == 2:
        test("anything", "failure", "nothing given")
    for kind, count in (("tests", "testcase"), ("failures", ".//failure"), ("skipped", ".//skipped")):
        suite.set(kind, str(len(suite.findall(count))))
    return suite


def run_list(args: argparse.Namespace) -> None:
    """Print the bundled cases."""
    with refused():
        cases = [check.open_case(name).about for name in check.bundled()]
    if args.json:
        keys = ("case", "kind", "system", "k", "m", "pins")
        say_json([{key: a.get(key) for key in keys} | {"tensors": len(a["tensors"])} for a in cases])
        return
    for about in cases:
        say(f"{about['case']:26} {about['pins']}")


def run_show(args: argparse.Namespace) -> None:
    """Print a case."""
    with refused():
        say(*lines(check.open_case(args.case)))


def run_starter(args: argparse.Namespace) -> None:
    """Write the starter, and print its files and the next commands."""
    for path in write(args.lang, args.folder):
        say(str(path))
    case, out = shlex.quote(str(check.CASES / "glimmer")), "out.safetensors"
    note(f"next, in {args.folder}: {command(args.lang)} {case} {out}")
    note(f"then: python check.py {case} {out} --brief")


def run_export(args: argparse.Namespace) -> None:
    """Copy the cases, print them in order, and the next commands."""
    from ..golden.export import ORDER, commands, export

    page, checker = export(args.folder)[:2]
    for path in (page, checker, *(page.parent / name for name in ORDER)):
        say(str(path))
    run, checked = commands(ORDER[0])
    note(f"next, in {args.folder}, the cases in this order: {run}")
    note(f"then: {checked}")


def run_make(args: argparse.Namespace) -> None:
    """Make the cases, or only their known mistakes."""
    from ..golden.generate.make import make, renew_mistakes

    with refused():
        (renew_mistakes if args.mistakes else make)(args.cases, args.out)
