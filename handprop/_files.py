"""Write files atomically."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_atomic"]


def write_atomic(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to a temporary file next to ``path`` and move it there.

    An interrupted or failed write leaves the old file unchanged. If ``path`` is a link, the file that it points to is
    replaced, and the link stays.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    target = os.path.realpath(path)
    descriptor, draft = tempfile.mkstemp(dir=os.path.dirname(target), prefix=f".{os.path.basename(target)}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(draft, 0o666 & ~umask)
        os.replace(draft, target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
