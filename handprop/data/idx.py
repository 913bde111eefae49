"""Read IDX, the format of MNIST: 00 00, type, number of dimensions, each dimension as big-endian uint32, data."""

import gzip
import math
import zlib
from typing import IO

import numpy as np

from handprop.data.reading import DataError, Path, open_file

__all__ = ["read_idx"]

Stream = IO[bytes] | gzip.GzipFile
_IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_MAX_DIMENSIONS = 32
_CHUNK = 1 << 20


def _take(file: Stream, count: int) -> bytearray:
    """Read at most ``count`` bytes in chunks, so that memory grows with the file's content, not with its header."""
    data = bytearray()
    while len(data) < count and (chunk := file.read(min(_CHUNK, count - len(data)))):
        data += chunk
    return data


def _idx_header(path: Path, file: Stream) -> tuple[np.dtype, tuple[int, ...]]:
    magic = _take(file, 4)
    if not magic:
        raise DataError(f"{path} is empty; give an IDX file, plain or gzipped.")
    if magic[:2] != bytes(len(magic[:2])):
        raise DataError(
            f"{path} starts with {magic[:2].hex(' ')}, not with 00 00 as an IDX file does; "
            f"give an IDX file, plain or gzipped."
        )
    if len(magic) < 4:
        raise DataError(f"{path} ends inside its header, at byte {len(magic)}; fetch the file again.")
    if magic[2] not in _IDX_DTYPES:
        types = ", ".join(f"{code:02x}" for code in _IDX_DTYPES)
        raise DataError(f"{path} byte 2 has type {magic[2]:02x}; give an IDX file of a known type ({types}).")
    if not 1 <= magic[3] <= _IDX_MAX_DIMENSIONS:
        raise DataError(f"{path} byte 3 declares {magic[3]} dimensions; give a file with 1 to {_IDX_MAX_DIMENSIONS}.")
    sizes = _take(file, 4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header, at byte {4 + len(sizes)}; fetch the file again.")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise DataError(f"{path} dimension {shape.index(0)} is 0; give a file that holds data.")
    return np.dtype(_IDX_DTYPES[magic[2]]), shape


def _idx_array(path: Path, file: Stream, max_bytes: int) -> np.ndarray:
    dtype, shape = _idx_header(path, file)
    size = math.prod(shape) * dtype.itemsize  # Python's integers do not overflow
    if size > max_bytes:
        raise DataError(
            f"{path} declares {size} bytes of data for shape {shape}, over max_bytes={max_bytes}; "
            f"raise max_bytes if you trust the file."
        )
    data = _take(file, size)
    if len(data) < size:
        raise DataError(f"{path} ends after {len(data)} of {size} bytes of data; fetch the file again.")
    if file.read(1):
        raise DataError(f"{path} has more than its {size} bytes of data; fetch the file again.")
    array = np.frombuffer(data, dtype)
    if not dtype.isnative:
        array = array.byteswap(inplace=True).view(dtype.newbyteorder("="))
    if dtype.kind == "f" and not np.isfinite(array).all():
        at = np.unravel_index(int(np.argmin(np.isfinite(array))), shape)
        raise DataError(f"{path} element {[int(i) for i in at]} is not finite; make every value finite.")
    return array.reshape(shape)


def read_idx(path: Path, max_bytes: int = 2**31) -> np.ndarray:
    """Read an IDX file, plain or gzipped, as an array of its shape and type (native byte order).

    Never more than ``max_bytes`` of data are held, whatever the file's size and whatever it decompresses to.
    Raises DataError.
    """
    with open_file(path) as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not zipped:
            return _idx_array(path, file, max_bytes)
        try:
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _idx_array(path, unzipped, max_bytes)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is a damaged or truncated gzip file; fetch the file again.") from error
