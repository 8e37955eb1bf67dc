"""glimmer-ref golden: check another implementation against golden cases, look at them, begin one, make them anew."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

from ..disk.write import written
from ..errors import InputError
from ..golden import check
from ..golden.adapters import check_command
from ..golden.show import lines
from ..golden.starter import LANGUAGES, write
from ..terminal import say, say_json
from .output import then

CASE = "name of a bundled case, or a folder with case.json"


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser("golden", help="check another implementation, and name the first stage that differs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_check(actions)
    listing = actions.add_parser("list", help="the bundled cases, and what each pins")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=run_list)
    show = actions.add_parser("show", help="a case's inputs, config and names, in a form to type from")
    show.add_argument("case", metavar="CASE", help=CASE)
    show.set_defaults(run=run_show)
    starter = actions.add_parser("starter", help="a skeleton that reads a case and writes the outputs")
    starter.add_argument("--lang", choices=tuple(LANGUAGES), default="python")
    starter.add_argument("folder", metavar="DIR", help="nothing in it is overwritten")
    starter.set_defaults(run=run_starter)
    make = actions.add_parser("make", help="make cases anew, with their tolerances")
    make.add_argument("cases", metavar="CASE", nargs="*", help="names (default: all)")
    make.add_argument("--out", metavar="DIR", default=check.CASES, help="(default: where the bundled cases are)")
    make.set_defaults(run=run_make)


def add_check(actions: Any) -> None:
    """The options of golden check."""
    parser = actions.add_parser(
        "check",
        help="hold an implementation's tensors against a case",
        description="Say for each tensor whether it is right, and which stage is the first that differs. "
        "Exit code 0: all that was given is right; 1: something differs or is unknown; 2: nothing could be judged.",
    )
    parser.add_argument("case", metavar="CASE", help=CASE)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "outputs", metavar="OUTPUTS", nargs="?", help="a safetensors file, or a folder that has <case>.safetensors"
    )
    source.add_argument("--run", dest="program", metavar="COMMAND", help="'my_program {case} {out}', to be run first")
    parser.add_argument("--precision", choices=check.PRECISIONS, default="float32", help="what they were computed in")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--junit", metavar="FILE", help="also write a JUnit report, one test case a tensor")
    parser.set_defaults(run=run_check)


@contextmanager
def refused() -> Iterator[None]:
    """What the checker, which imports nothing of ours, calls unusable is a refusal here."""
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
    with then(lambda: _write_junit(report, args.junit)):
        if args.json:
            say_json(report.to_json())
        else:
            say(*report.lines())
    return report.code


def _write_junit(report: check.Report, path: str | None) -> None:
    if path:
        with written(path) as file:
            ElementTree.ElementTree(junit(report)).write(file, encoding="utf-8", xml_declaration=True)


def junit(report: check.Report) -> ElementTree.Element:
    """The report as continuous integration reads it: one test case for each tensor and each unknown name."""
    suite = ElementTree.Element("testsuite", name=f"golden.{report.case}")

    def test(name: str, kind: str = "", said: str = "") -> None:
        element = ElementTree.SubElement(suite, "testcase", classname=f"golden.{report.case}", name=name)
        if kind:
            ElementTree.SubElement(element, kind, message=said)

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
    """Write the skeleton, and say where."""
    for path in write(args.lang, args.folder):
        say(str(path))


def run_make(args: argparse.Namespace) -> None:
    """Make cases, and say which."""
    from ..golden.generate.make import make

    make(args.cases, args.out)
