"""``python -m handprop.cli``."""

from handprop.cli.main import main

__all__ = ()

if __name__ == "__main__":
    raise SystemExit(main())
