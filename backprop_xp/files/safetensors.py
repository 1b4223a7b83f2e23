"""The safetensors format, written atomically and read strictly.

A file consists of the length of its header (8 bytes, little-endian), the header (JSON: the dtype, shape and
offsets of each tensor, and strings as metadata), and the bytes of the tensors, without gaps
(https://github.com/huggingface/safetensors). Ours end with a tensor `~sha256`, the SHA-256 of every byte
before it. The whole header is checked before any memory is allocated for the tensors.
"""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from math import isfinite, prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, NoReturn

from ..arrays import Shape
from ..errors import FileError, listed
from .atomic import write_whole

HASH = "~sha256"
LARGEST_HEADER = 1 << 20
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
_AXES = 32  # of a tensor, at most
_HASHED_AT_ONCE = 1 << 20
_LONGEST_REASON = 300  # characters of a message, which may quote the file


class Tensor(NamedTuple):
    """The dtype and shape of a tensor, and where its bytes begin and end, counted from the header's end."""

    dtype: str
    shape: Shape
    start: int
    stop: int


class Header(NamedTuple):
    """The header of a file.

    Attributes:
        tensors: the tensors by name, in the order of their bytes.
        metadata: strings by name.
        text: the bytes of the header, with its length in front.
        size: the number of bytes of all tensors.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    text: bytes
    size: int


def write(path: Path, tensors: Sequence[tuple[str, str, Shape, Any]], metadata: dict[str, str]) -> None:
    """Write tensors and their hash, atomically.

    Args:
        path: the path of the file.
        tensors: the name, dtype, shape and bytes (little-endian) of each, in the order of the file.
        metadata: strings by name.

    Raises:
        FileError: two tensors have one name, the header exceeds 1 MiB, or as for `write_whole`.
    """
    table: dict[str, Any] = {"__metadata__": metadata}
    start = 0
    for name, dtype, shape, data in [*tensors, (HASH, "U8", (32,), bytes(32))]:
        if name in table:
            msg = f"two tensors of {path} would be named {name!r}: give the layer another name"
            raise FileError(msg)
        stop = start + memoryview(data).nbytes
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    header = json.dumps(table, separators=(",", ":")).encode("ascii")
    header += b" " * (-len(header) % 8)
    if len(header) > LARGEST_HEADER:
        msg = f"the header of {path} would have {len(header):,} bytes; at most {LARGEST_HEADER:,} are allowed"
        raise FileError(msg)
    write_whole(path, _hashed([len(header).to_bytes(8, "little"), header, *(data for *_, data in tensors)]))


def _hashed(chunks: Sequence[Any]) -> Iterator[Any]:
    """Each chunk, and at the end their hash."""
    found = sha256()
    for chunk in chunks:
        found.update(chunk)
        yield chunk
    yield found.digest()


class Reader:
    """An open file whose header has been read and checked.

    Attributes:
        path: the path of the file.
        header: its header.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(self._exactly(8), "little") if size >= 8 else 0
        if not 2 <= length <= min(LARGEST_HEADER, size - 8):
            self.refuse(
                f"its first bytes give a header of {length:,} bytes, but the file has {size:,}"
                if size
                else "it is empty"
            )
        text = self._exactly(length)
        self.header = self._parsed(text, size - 8 - length)

    def refuse(self, why: str) -> NoReturn:
        """Raise a `FileError` that says what is wrong with the file."""
        msg = f"{self.path} is damaged or no file of this kind: {why[:_LONGEST_REASON]}"
        raise FileError(msg)

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) != count:
            self.refuse("it ends too early")
        return data

    def _parsed(self, text: bytes, size: int) -> Header:
        try:
            table = parse_json(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            self.refuse(f"its header is not strict JSON ({str(error)[:80]})")
        if not text.startswith(b"{") or not isinstance(table, dict):
            self.refuse("its header must be a JSON object")
        metadata = table.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(each, str) for each in metadata.values()):
            self.refuse("its metadata must be strings by name")
        tensors = {name: self._tensor(name, each) for name, each in table.items()}
        tensors = dict(sorted(tensors.items(), key=lambda item: item[1][2:]))
        end = 0
        for name, each in tensors.items():
            if each.start != end:
                self.refuse(f"tensor {name!r} begins at byte {each.start:,}, not at {end:,}")
            end = each.stop
        if end != size:
            self.refuse(f"its tensors have {end:,} bytes, but {size:,} follow its header")
        return Header(tensors, metadata, len(text).to_bytes(8, "little") + text, size)

    def _tensor(self, name: str, found: Any) -> Tensor:
        if not isinstance(found, dict) or set(found) != {"dtype", "shape", "data_offsets"}:
            self.refuse(f"tensor {name!r} must have a dtype, a shape and data_offsets, and nothing else")
        dtype, shape, places = found["dtype"], found["shape"], found["data_offsets"]
        if not isinstance(dtype, str) or dtype not in SIZES:
            self.refuse(f"the dtype of {name!r} must be one of {listed(SIZES)}, got {str(dtype)[:20]!r}")
        if not _whole(shape) or len(shape) > _AXES or not _whole(places) or len(places) != 2:
            self.refuse(
                f"{name!r} must have a shape of at most {_AXES} axes and two data_offsets, integers 0 or more"
            )
        if places[1] - places[0] != SIZES[dtype] * prod(shape):
            self.refuse(f"the number of bytes of {name!r} does not fit its dtype and shape")
        return Tensor(dtype, tuple(shape), *places)

    def read(self) -> bytearray:
        """The bytes of all tensors, after checking the hash."""
        wanted = self._hash_place()
        data = bytearray(self.header.size)
        got, view = 0, memoryview(data)
        while got < len(data) and (more := self._file.readinto(view[got:])):  # type: ignore[attr-defined]
            got += more
        if got < len(data):
            self.refuse("it ends too early")
        self._check(sha256(self.header.text), view, wanted)
        return data

    def _check(self, found: Any, view: memoryview, wanted: int) -> None:
        found.update(view[:wanted])
        if found.digest() != bytes(view[wanted:]):
            self.refuse("its bytes are not those that were written (SHA-256)")

    def verify(self) -> None:
        """Check the hash, reading 1 MiB at a time.

        Raises:
            FileError: the file was changed, or has no hash.
        """
        left, found = self._hash_place(), sha256(self.header.text)
        while left:
            part = self._exactly(min(left, _HASHED_AT_ONCE))
            found.update(part)
            left -= len(part)
        self._check(found, memoryview(self._exactly(32)), 0)

    def bytes_of(self, name: str) -> bytes:
        """The bytes of one tensor, not checked against the hash; b"" if there is none of this name."""
        place = self.header.tensors.get(name)
        if place is None:
            return b""
        self._file.seek(len(self.header.text) + place.start)
        return self._exactly(place.stop - place.start)

    def _hash_place(self) -> int:
        last = next(reversed(self.header.tensors.items()), None)
        if last is None or last[0] != HASH or last[1].dtype != "U8" or last[1].shape != (32,):
            self.refuse(f"its last tensor must be {HASH!r}, 32 bytes")
        return last[1].start


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """Open a file for reading, and check its header.

    Raises:
        FileError: there is no such file, it is not a regular one, or its header is wrong.
    """
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise _not_read(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        msg = f"{path} is not a regular file"
        raise FileError(msg)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            yield Reader(path, file)
        except OSError as error:
            raise _not_read(path, error) from error


def _not_read(path: Path, error: Exception) -> FileError:
    return FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")


def parse_json(text: str) -> Any:
    """Parse JSON; NaN, infinity and duplicate names are errors.

    Raises:
        ValueError: the text is not such JSON.
        RecursionError: it is nested too deeply.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "two entries have the same name"
        raise ValueError(msg)
    return found


def _no_number(text: str) -> NoReturn:
    msg = f"{text} is not a finite number"
    raise ValueError(msg)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        _no_number(text[:20])
    return number


def _whole(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in values)
