"""What every experiment's command line has in common."""

import argparse
from pathlib import Path

__all__ = ["picture_folder"]


def picture_folder(description: str | None) -> Path:
    """The folder of ``--out``, made if it is not there."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent / "pictures"
    parser.add_argument("--out", type=Path, default=default, help="folder for the picture")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out
