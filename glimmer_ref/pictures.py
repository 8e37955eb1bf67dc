"""Draws pictures with matplotlib, independent of the user's settings; text is never parsed as mathematics."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from .disk.read import PathLike
from .disk.write import check_place, written
from .errors import InputError

FORMATS = ("png", "svg", "pdf", "jpg", "webp")
STYLE = {"text.usetex": False, "text.parse_math": False}


def _format(path: PathLike) -> str:
    """The format that the ending of a name asks for; PNG without an ending."""
    ending = os.path.splitext(os.fspath(path))[1][1:].lower()
    if ending and ending not in FORMATS:
        raise InputError(f"{path}", f"a name that ends in {', '.join(f'.{name}' for name in FORMATS)}", f".{ending}")
    return ending or "png"


def check_picture(path: PathLike) -> None:
    """Check the path of a picture before the work starts, as far as this can be known.

    Raises:
        InputError: an unknown format, or as `check_place`.
    """
    _format(path)
    check_place(path)


def _place_settings() -> None:
    """For a user without a home folder, put the settings and the font list of matplotlib into a temporary one.

    Newer versions do so themselves, with a warning; without this, version 3.9 could not be imported.
    """
    if "MPLCONFIGDIR" not in os.environ and os.path.expanduser("~") == "~":
        folder = os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _imported() -> Any:
    """Import matplotlib, even if MPLBACKEND names an unknown backend, with which its import fails."""
    _place_settings()
    wanted = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except (ImportError, OSError, ValueError) as error:  # a broken installation, or a settings file that is no text
        raise InputError("matplotlib", "an installation that can be imported", str(error), "install it again") from None
    finally:
        if wanted is not None:
            os.environ["MPLBACKEND"] = wanted
    if wanted:
        with suppress(ValueError):  # as matplotlib does at its import
            matplotlib.rcParams["backend"] = wanted
    return matplotlib


@contextmanager
def picture(
    path: PathLike, rows: int, columns: int, size: tuple[float, float], dpi: int, **more: Any
) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes [rows columns], which the block draws on; the file is written when the block ends.

    The backend, the settings and the figures of the user's matplotlib do not change.

    Args:
        size: width and height in inches.
        more: further arguments of `Figure.subplots`.

    Raises:
        InputError: an unknown format, a picture that is too large, or a file that cannot be written.
    """
    form, matplotlib = _format(path), _imported()
    with warnings.catch_warnings(), matplotlib.rc_context():
        warnings.simplefilter("ignore")  # about letters that no font has: they are drawn as boxes
        default = matplotlib.rcParamsDefault
        matplotlib.rcParams.update({key: default[key] for key in default if key != "backend"} | STYLE)
        from matplotlib.figure import Figure  # pyplot would choose a backend for the whole process

        figure = Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, squeeze=False, **more)
        drawn = io.BytesIO()
        try:
            figure.savefig(drawn, format=form, dpi=dpi)
        except (OSError, ValueError, OverflowError) as error:
            raise InputError(f"{path}", "a picture that can be drawn", str(error)) from None
    with written(path) as file:
        file.write(drawn.getbuffer())
