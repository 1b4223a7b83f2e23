"""Model files: a learner as data, its weights and its state, in one safetensors file.

Weights are stored under the names of their blocks ("dense1.w"), so that any program can find the matrices
of a layer. The names of the state's arrays begin with "s." and follow its structure ("s.step",
"s.rule.moments.0.dense1.w"). Fractions are lines of hexadecimal text, "n/d". The metadata has one entry,
`backprop_xp`, which is JSON.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__, backends
from ..arrays import Array, Shape, is_array, mapped
from ..backends import Backend
from ..checks import check_state
from ..errors import BackpropError, FileError, in_bytes
from ..learner import Learner
from ..rng import word
from ..step import State
from ..train.batches import ORDER
from .safetensors import HASH, SIZES, Reader, opened, write
from .units import decode, encode, parse_unit_json

FORMAT = 1  # the version of the metadata
RULES = 1  # the version of the arithmetic of steps: runs of another version cannot be resumed bit for bit
KEY = "backprop_xp"
HISTORY = "~history"  # in a checkpoint, the tensor of its epochs, a row each
_DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "U32": "<u4"}
_NAMES = {"float32": "F32", "float64": "F64", "int32": "I32", "uint32": "U32"}
_DIGITS = 1 << 14  # characters of a fraction's line, at most


class Leaf(NamedTuple):
    """An array of w or s in a file: its dtype and shape, and the consecutive tensors it is stored in."""

    dtype: str
    shape: Shape
    parts: tuple[tuple[str, Shape], ...]


def save(path: str | Path, learner: Learner, w: Array, s: State) -> None:
    """Save a learner, its weights and its state in a safetensors file, atomically.

    The file contains no code. Every number, fractions included, is restored bit for bit, on any backend that
    has its dtype.

    Args:
        path: the path of the file; an existing regular file is replaced.
        learner: the net, its loss and its update rule.
        w: the weights.
        s: the state.

    Raises:
        BackpropError: w and s do not belong to the learner.
        FileError: the file cannot be written, or a part of the learner cannot be described by its settings,
            such as a schedule that is a function.

    >>> import tempfile, backprop_xp as bp
    >>> learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    >>> w, s = learner.init(seed=7)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bp.save(f"{folder}/net.safetensors", learner, w, s)
    ...     again, w2, s2 = bp.load(f"{folder}/net.safetensors")
    >>> again == learner, w2.tolist() == w.tolist(), int(s2.seed)
    (True, True, 7)
    """
    write_model(checked_path(path), learner, encode(learner), w, s)


def load(
    path: str | Path,
    *,
    known: Mapping[str, type] | None = None,
    like: Array = None,
    backend: str | None = None,
    device: Any = None,
    dtype: Any = None,
) -> tuple[Learner, Array, State]:
    """Load the learner, weights and state from a file that `save` or a run wrote.

    Nothing in the file is executed or imported: layers and other units are looked up by name in this
    library's lists and in `known`. The header is checked before memory is allocated for the tensors.

    Args:
        path: the path of the file.
        known: classes of your own that the learner uses, by name, as in {"Swish": Swish}.
        like: an array whose library and device are used.
        backend: without `like`, the name of the library; None for the one chosen by
            `with bp.backend(...)`, or NumPy.
        device: a device of that library.
        dtype: the dtype of the weights; None for that of the file. Another one may round.

    Raises:
        FileError: the file cannot be read, is damaged, has another format version, or names a unit that
            is not known.
        BackpropError: the library lacks the dtype.
    """
    with opened(checked_path(path)) as reader:
        learner, kind = content(reader, known)
        tree, _ = read_arrays(reader, learner, kind)
    return learner, *to_backend(tree, kind, like, backend, device, dtype)


def checked_path(path: Any) -> Path:
    """The argument as a `Path`.

    Raises:
        BackpropError: it is no path, or is empty, as from an unset shell variable.
    """
    if path == "":
        msg = "the path of a file must not be empty text"
        raise BackpropError(msg)
    try:
        return Path(path)
    except TypeError as error:
        msg = f"the path of a file must be text or a pathlib.Path, got {path!r}"
        raise BackpropError(msg) from error


# ---------------------------------------------------------------- writing
def write_model(
    path: Path,
    learner: Learner,
    data: Any,
    w: Array,
    s: State,
    *,
    run: Any = None,
    estimator: Any = None,
    more: Sequence[tuple[str, str, Shape, Any]] = (),
) -> None:
    """Write a model file.

    Args:
        path: the path of the file.
        learner: the net, its loss and its update rule.
        data: the learner as data, from `encode`.
        w: the weights.
        s: the state.
        run: for a checkpoint, what its run needs to resume.
        estimator: for an estimator, its settings and fitted attributes besides the learner.
        more: tensors besides those of w and s.
    """
    learner.weights(w)
    check_state(s, State, learner.pure.moments)
    kind = str(w.dtype).rpartition(".")[2]
    told = {"format": FORMAT, "order": ORDER, "rules": RULES, "version": __version__, "dtype": kind}
    told |= {"learner": data} | ({} if run is None else {"run": run})
    told |= {} if estimator is None else {"estimator": estimator}
    try:
        text = json.dumps(told, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        msg = f"the settings cannot be written as JSON: {error}"
        raise FileError(msg) from error
    tensors: list[tuple[str, str, Shape, Any]] = []
    leaves = table(learner, kind, one_count=not s.rule.count.ndim)
    same = len(s.layers) == len(learner.net.nodes)
    arrays = [w, *(array for _, array in _walk(_by_layer(learner, s), "s"))] if same else []
    if len(arrays) != len(leaves):
        msg = "the state is not that of this learner: use the one that init, step or fit returned with w"
        raise BackpropError(msg)
    for leaf, a in sorted(zip(leaves, arrays, strict=True), key=lambda pair: _order(pair[0])):
        if tuple(a.shape) != leaf.shape:
            msg = f"'{leaf.parts[0][0]}' of the state must have shape {leaf.shape}, got {tuple(a.shape)}"
            raise BackpropError(msg)
        tensors += _tensors(a, leaf)
    write(path, [*tensors, *more], {KEY: text})


def table(learner: Learner, kind: str, *, one_count: bool) -> list[Leaf]:
    """The arrays in a file of this learner, in the order in which w and s have them.

    Args:
        learner: the net, its loss and its update rule.
        kind: the name of the dtype of the weights.
        one_count: whether the rule has a single step count, not one for each weight as after thawing.
    """
    w, s = learner.abstract("float64" if kind == "rational" else kind)
    layout, size = learner.net.layout, sum(b.stop - b.start for b in learner.net.layout.learning)

    def leaf(a: Any, parts: Iterator[tuple[str, Shape]]) -> Leaf:
        rational = kind == "rational" and a.dtype.kind == "f"
        return Leaf("text" if rational else _NAMES[str(a.dtype)], tuple(a.shape), tuple(parts))

    found = [leaf(w, ((b.name, b.shape) for b in layout.blocks))]
    for name, a in _walk(_by_layer(learner, s), "s"):
        if name.startswith("s.rule.moments."):
            found.append(leaf(a, ((f"{name}.{b.name}", b.shape) for b in layout.learning)))
        elif name == "s.rule.count" and not one_count:
            found.append(Leaf("I32", (size,), ((name, (size,)),)))
        else:
            found.append(leaf(a, iter([(name, tuple(a.shape))])))
    return found


def _by_layer(learner: Learner, s: State) -> dict[str, Any]:
    """The state with its layers by name."""
    names = (node.name for node in learner.net.nodes)
    return s._asdict() | {"layers": dict(zip(names, s.layers, strict=True))}


def _walk(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The arrays of a tree in order, each with the names that lead to it."""
    if is_array(tree):
        yield name, tree
        return
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    for key, each in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield from _walk(each, f"{name}.{key}")


def _order(leaf: Leaf) -> int:
    """Dtypes of more bytes come first, so that all tensors are aligned."""
    return -SIZES.get(leaf.dtype, 0)


def _tensors(a: Array, leaf: Leaf) -> Iterator[tuple[str, str, Shape, Any]]:
    """The tensors in which an array is stored."""
    start = 0
    if leaf.dtype == "text":
        values = backends.of(a).xp.reshape(a, (-1,)).tolist()
        for name, shape in leaf.parts:
            stop = start + prod(shape)
            data = "".join(map(_line, values[start:stop])).encode("ascii")
            yield name, "U8", (len(data),), data
            start = stop
        return
    values = backends.host(a)
    if leaf.dtype == "U32":
        values = values.astype("int64") & 0xFFFFFFFF  # some libraries have signed words only
    values = memoryview(values.reshape(-1).astype(_DTYPES[leaf.dtype]).tobytes())
    for name, shape in leaf.parts:
        stop = start + SIZES[leaf.dtype] * prod(shape)
        yield name, leaf.dtype, shape, values[start:stop]
        start = stop


def _line(value: Fraction) -> str:
    line = f"{value.numerator:x}/{value.denominator:x}\n"
    if len(line) > _DIGITS:
        msg = f"a fraction of {len(line):,} digits is too long to be saved; at most {_DIGITS:,} are allowed"
        raise FileError(msg)
    return line


# ---------------------------------------------------------------- reading
def told(reader: Reader) -> dict[str, Any]:
    """The metadata of a model file, parsed and checked."""
    if KEY not in reader.header.metadata:
        reader.refuse(f"its metadata have no entry '{KEY}', which bp.save writes")
    found = parse_unit_json(reader.header.metadata[KEY])
    whole = ("format", "order", "rules")
    if not isinstance(found, dict) or not all(type(found.get(name)) is int for name in whole):
        reader.refuse("its metadata lack the versions")
    if found["format"] != FORMAT:
        now = f"this library reads {FORMAT}: use the version that wrote it"
        msg = f"{reader.path} is of format {str(found['format'])[:20]}, but {now}"
        raise FileError(msg)
    kinds = ("float32", "float64", "rational")
    if found.get("dtype") not in kinds or not isinstance(found.get("learner"), dict):
        reader.refuse("its metadata lack the dtype or the learner")
    return found


def content(reader: Reader, known: Mapping[str, type] | None = None) -> tuple[Learner, str]:
    """The learner in a file, and the dtype of its weights; no tensors are read."""
    found = told(reader)
    learner = decode(found["learner"], known)
    if not isinstance(learner, Learner):
        reader.refuse("its metadata describe no learner")
    return learner, found["dtype"]


def read_arrays(reader: Reader, learner: Learner, kind: str) -> tuple[tuple[Array, State], bytearray]:
    """Weights and state on the host, and the bytes they were read from; the hash is checked.

    Args:
        reader: the open file.
        learner: the learner, whose tensors the file must have.
        kind: the name of the dtype of the weights.
    """
    free = backends.get("numpy").free_memory(None)
    if free is not None and reader.header.size > free:
        msg = f"{reader.path} holds {in_bytes(reader.header.size)}, but {in_bytes(free)} of memory are free"
        raise FileError(msg)
    try:
        one = reader.header.tensors["s.rule.count"].shape == ()
        leaves = table(learner, kind, one_count=one)
        like = learner.abstract("float32")
    except Exception as error:  # the shapes in the file may be anything, and so may the error
        reader.refuse(f"its table is not that of its learner ({str(error)[:80] or type(error).__name__})")
    _check_table(reader, leaves)
    data = reader.read()
    arrays = iter([_array(reader, data, leaf) for leaf in leaves])
    return mapped(like, lambda _: next(arrays)), data


def _check_table(reader: Reader, leaves: list[Leaf]) -> None:
    """Check that a file has the tensors of its learner, in the order in which `save` writes them."""
    wanted = [
        (name, "U8" if leaf.dtype == "text" else leaf.dtype, None if leaf.dtype == "text" else shape)
        for leaf in sorted(leaves, key=_order)
        for name, shape in leaf.parts
    ]
    there = [
        (name, each.dtype, each.shape)
        for name, each in reader.header.tensors.items()
        if name not in (HASH, HISTORY)
    ]
    if len(there) != len(wanted):
        reader.refuse(f"its learner needs {len(wanted)} tensors, but it has {len(there)}")
    for (name, dtype, shape), (own, kind, size) in zip(wanted, there, strict=True):
        if (name, dtype) != (own, kind) or shape not in (None, size) or (len(size) != 1 and shape is None):
            reader.refuse(
                f"where its learner needs '{name}', {dtype} {shape or ''}, there is '{own}', {kind} {size}"
            )


def _array(reader: Reader, data: bytearray, leaf: Leaf) -> Array:
    """An array on the host, copied from the file's bytes."""
    host = backends.get("numpy").xp
    tensors = reader.header.tensors
    if leaf.dtype == "text":
        lines: list[Fraction] = []
        for name, shape in leaf.parts:
            text = data[tensors[name].start : tensors[name].stop]
            lines += _fractions(reader, name, text, prod(shape))
        exact = backends.get("exact").xp
        if not lines:
            return exact.zeros(leaf.shape, dtype=exact.rational)
        return exact.reshape(backends.asarray(lines, backend="exact"), leaf.shape)
    count = prod(leaf.shape)
    if not count:
        return host.zeros(leaf.shape, dtype=_DTYPES[leaf.dtype][1:])
    first = tensors[leaf.parts[0][0]].start
    values = host.frombuffer(data, dtype=_DTYPES[leaf.dtype], count=count, offset=first)
    return values.astype(_DTYPES[leaf.dtype][1:]).reshape(leaf.shape)


def _fractions(reader: Reader, name: str, text: bytearray, count: int) -> list[Fraction]:
    """The fractions in lines of text."""
    lines = text.split(b"\n")
    if len(lines) != count + 1 or lines[-1]:
        reader.refuse(f"'{name}' must have {count} lines")
    found = []
    if max(map(len, lines)) >= _DIGITS:
        reader.refuse(f"a line of '{name}' is too long")
    for line in lines[:-1]:
        try:
            top, bottom = line.split(b"/")
            value = Fraction(int(top, 16), int(bottom, 16))
        except (ValueError, ZeroDivisionError):
            reader.refuse(f"a line of '{name}' is no fraction: {bytes(line[:20])!r}")
        if _line(value).encode("ascii") != line + b"\n":
            reader.refuse(f"a line of '{name}' is not in lowest terms: {bytes(line[:20])!r}")
        found.append(value)
    return found


def to_backend(
    tree: tuple[Array, State], own: str, like: Array, backend: str | None, device: Any, dtype: Any = None
) -> tuple[Array, State]:
    """Weights and state, sent from the host to a backend; `own` is the name of their dtype in the file."""
    if own == "rational" and like is None and dtype is None:
        backend = backend or "exact"
    to, where, kind = backends.resolve(like, backend, device, own if dtype is None else dtype)
    kind = to.dtype(own) if dtype is None else kind
    if not to.xp.isdtype(kind, "real floating"):
        msg = f"the dtype of weights must be one of {to.floats}, got {dtype!r}"
        raise BackpropError(msg)
    return mapped(tree, lambda a: to.committed(_sent(a, to, where, kind)))  # type: ignore[no-any-return]


def _sent(a: Array, to: Backend, device: Any, kind: Any) -> Array:
    name = str(a.dtype)
    if name == "uint32":
        own = word(to.xp)
        signed = to.xp.isdtype(own, "signed integer")
        return backends.convert(a.astype("int32") if signed else a, to, own, device)
    return backends.convert(a, to, to.xp.int32 if name == "int32" else kind, device)


def read_text(path: Path, most: int) -> str:
    """The text of a small file.

    Raises:
        FileError: it cannot be read, or has more than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            msg = f"{path} has more than {in_bytes(most)}"
            raise FileError(msg)
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise FileError(msg) from error
