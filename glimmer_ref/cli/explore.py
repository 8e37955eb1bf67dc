"""glimmer-ref explore: the bundled model as a page, on which a question goes through all stages."""

from __future__ import annotations

import argparse
from typing import Any

from ..terminal import say, say_json


def add(commands: Any) -> None:
    """The command's options."""
    parser = commands.add_parser(
        "explore",
        help="write a page that runs the bundled model in a browser",
        description="Write one HTML file that runs the bundled model in a browser, offline: a question goes through "
        "all stages while one watches. It has a guided tour for a lecture.",
    )
    parser.add_argument("out", metavar="OUT.html", help="file for the page")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the page, and print its name and size."""
    from ..live.page import write_page

    size = write_page(args.out)
    if args.json:
        say_json({"file": args.out, "bytes": size})
    else:
        say(f"{args.out}: {size:,} bytes; open it in a browser")
