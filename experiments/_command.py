"""What the command lines of all experiments have in common."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import jax

__all__ = ["at_least_one", "keep", "options", "parser", "picture_folder"]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option ``--out``, to which an experiment adds its own options."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent / "pictures"
    made.add_argument("--out", type=Path, default=default, help="folder for the picture")
    return made


def at_least_one(text: str) -> int:
    """Parse a count on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid count; give a whole number of at least 1")
    return int(text)


def options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the arguments, and create the folder of ``--out`` if it does not exist."""
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    return given


def picture_folder(description: str | None) -> Path:
    """Return the folder of ``--out``, for an experiment that has no other option."""
    return options(parser(description)).out


def keep(path: Path, rows: Any, more: dict[str, Any] | None = None) -> None:
    """Write the measurements as JSON, with the machine and versions they were made on, and the entries of ``more``."""
    machine = {"jax": jax.__version__, "python": platform.python_version(), "device": str(jax.devices()[0]),
               "machine": f"{platform.machine()}, {platform.system()}"}  # fmt: skip
    path.write_text(json.dumps({**machine, **(more or {}), "rows": rows}, indent=1) + "\n")
    print(f"wrote {path}")
