"""What every experiment's command line has in common."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import jax

__all__ = ["at_least_one", "keep", "options", "parser", "picture_folder"]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that knows ``--out``; an experiment adds what is its own."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent / "pictures"
    made.add_argument("--out", type=Path, default=default, help="folder for the picture")
    return made


def at_least_one(text: str) -> int:
    """A count on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; give a whole number, at least 1")
    return int(text)


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; the folder of ``--out`` is made if it is not there."""
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def picture_folder(description: str | None) -> Path:
    """The folder of ``--out``, for an experiment that has no other argument."""
    return options(parser(description)).out


def keep(path: Path, rows: Any, more: dict[str, Any] | None = None) -> None:
    """Write what was measured as JSON, with the machine and the versions it was measured on, and what ``more`` says."""
    machine = {"jax": jax.__version__, "python": platform.python_version(), "device": str(jax.devices()[0]),
               "machine": f"{platform.machine()}, {platform.system()}"}  # fmt: skip
    path.write_text(json.dumps({**machine, **(more or {}), "rows": rows}, indent=1) + "\n")
    print(f"wrote {path}")
