"""Model files: what is saved comes back bit for bit; what is damaged or hostile is never taken for good."""

import errno
import importlib.util
import json
import os
import sys
import time
import tracemalloc
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp.errors import FileError
from backprop_xp.files import atomic, safetensors, units
from backprop_xp.files.safetensors import SIZES, opened

ROOT = Path(__file__).resolve().parent.parent


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def bits(w, s):
    """Values and dtypes, to be compared; words as unsigned on every backend."""
    host = [bp.backends.host(a) for a in bp.arrays.leaves((w, s))]
    return [(a.astype("int64") & 0xFFFFFFFF if a.dtype.kind in "iu" else a).tolist() for a in host]


def trained(place, update=None, **settings):
    """A small net after two steps in a place."""
    exact = place.name == "exact"
    f = bp.relu if exact else bp.tanh
    net = bp.chain(2, bp.named("early", bp.Dense(3, f)), bp.Dense(3, f), bp.add("early"), bp.Dense(1))
    update = update or (bp.updates.Momentum("1/10", "1/2") if exact else bp.Adam(0.01))
    learner = bp.Learner(net, bp.half_squared_error, update, **settings)
    w, s = place.init(learner, 0xFFFFFFF1)
    x, t = place.array([[1, 2], [3, -1]]), place.array([[1], [0]])
    for _ in range(2):
        w, s, _ = learner.step(w, s, x, t)
    return learner, w, s


# ---------------------------------------------------------------- units as data
@dataclass(frozen=True)
class Swish:
    """o = net σ(β net)."""

    beta: Any = 1.0
    table: Any = ()

    def __call__(self, net, *, xp):
        return net / (1 + xp.exp(-self.beta * net))

    def delta(self, e, net, o, *, xp):
        return e * (o + (1 - o) / (1 + xp.exp(-self.beta * net)))


def test_every_unit_of_the_library_comes_back_from_its_data():
    rooms = [each for each in vars(bp).values() if isinstance(getattr(each, "ALL", None), dict)]
    rooms = [each for each in rooms if each not in (bp.initialization, bp.metrics)]  # of no learner
    assert set(units.ROOMS) >= set(rooms), "a room whose list a file may name"
    for room in rooms:
        for unit in room.ALL.values():
            kind = unit if isinstance(unit, type) else type(unit)
            assert units.library_units()[f"{room.__name__.rpartition('.')[2]}.{kind.__name__}"] is kind
            if unit is not kind:
                assert units.decode(json.loads(json.dumps(units.encode(unit)))) == unit


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2**80, 0.1, 5e-324, float("inf"), Fraction(-1, 3), "1/3", (1, (2.0, "a")),
        frozenset({"b"}), {"*.b": bp.Adam("1/100"), "*": bp.updates.L2(0.5)}, bp.updates.ClipByNorm(2),
        bp.Dense(np.int64(3), bp.activations.LeakyReLU(np.float32(0.1), ">")),
    ],
    ids=str,
)  # fmt: skip
def test_settings_come_back_as_they_are(value):
    again = units.decode(json.loads(json.dumps(units.encode(value))))
    assert again == value
    if isinstance(value, (int, float)):
        assert type(again) is type(value)
    if isinstance(value, dict):
        assert list(again) == list(value), "the first pattern that matches wins"


def test_a_class_of_ones_own_must_be_given(tmp_path):
    path = tmp_path / "own"
    learner = bp.Learner(bp.chain(2, bp.Dense(3, Swish(2.5, (1, "a"))), bp.Dense(1)))
    bp.save(path, learner, *learner.init())
    with pytest.raises(FileError, match=r"'Swish' is none of this library's units: .*known=\{'Swish': …\}"):
        bp.load(path)
    assert bp.load(path, known={"Swish": Swish})[0] == learner
    with pytest.raises(bp.BackpropError, match="known= gives a class"):
        bp.load(path, known={"Swish": Swish()})
    with pytest.raises(bp.BackpropError, match="known= gives a class"):
        bp.load(path, known={"layers.Dense": Swish})


@dataclass(frozen=True)
class Net(bp.layers.Activate):
    """A class of the library's name."""


class Hidden:
    """Settings that nobody can see."""

    def __init__(self, beta):
        self.beta = beta

    __call__ = delta = Swish.delta


@pytest.mark.parametrize(
    ("learner", "why"),
    [
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1)), update=bp.GradientDescent(lambda k, *, xp: 1)),
         "<lambda>' is a function, which cannot be saved"),
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1), Net(bp.tanh))), "class Net has the name of another one"),
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1, Hidden(1)))), "cannot be saved, a Hidden: units are"),
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1, Swish(table=[1])))), "cannot be saved, a list"),
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1, Swish(table={1: 2})))), "names of a mapping"),
        (lambda: bp.Learner(bp.chain(2, bp.Dense(1, Swish(np.ones(2))))), "cannot be saved, a ndarray"),
    ],
)  # fmt: skip
def test_what_cannot_come_back_is_refused_before_it_is_written(learner, why, tmp_path):
    learner = learner()
    with pytest.raises(FileError, match=why):
        bp.save(tmp_path / "a", learner, *learner.init())
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- weights and state
def test_weights_and_state_come_back_bit_for_bit_on_every_backend(any_place, tmp_path):
    where = {"backend": any_place.name, "device": any_place.device}
    learner, w, s = trained(
        any_place if any_place.name == "exact" else type(any_place)("numpy", any_place.dtype)
    )
    bp.save(tmp_path / "a", learner, w, s)
    again, w2, s2 = bp.load(tmp_path / "a", **where)
    assert again == learner
    assert bits(w2, s2) == bits(w, s)
    assert bp.backends.of(w2) is any_place.backend
    assert bp.backends.of(w2).device_of(w2) == any_place.backend.device_of(any_place.array([0]))
    assert (w2.dtype, s2.step.dtype) == (any_place.backend.dtype(any_place.dtype), bp.rng.word(any_place.xp))
    bp.save(tmp_path / "b", learner, w2, s2)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    assert bits(*bp.load(tmp_path / "b", like=w2)[1:]) == bits(w, s)


@pytest.mark.parametrize(
    "change",
    [
        lambda learner, w, s: learner.freeze("early", w, s),
        lambda learner, w, s: _thawed(*learner.freeze("early", w, s)),
    ],
)  # fmt: skip
def test_frozen_and_thawed_nets_come_back(change, home, tmp_path):
    learner, w, s = change(*trained(home))
    bp.save(tmp_path / "a", learner, w, s)
    again, w2, s2 = bp.load(tmp_path / "a")
    assert again == learner
    assert s2.rule.count.shape == s.rule.count.shape
    assert bits(w2, s2) == bits(w, s)


def _thawed(learner, w, s):
    return learner.thaw("early", w, s)


def test_a_loss_scale_and_fractions_are_saved(tmp_path):
    learner = bp.Learner(bp.chain(2, bp.Dense(1)), precision="float16")
    w, s = learner.abstract("float32")
    w, s = bp.arrays.mapped((w, s), np.array)
    s = s._replace(scale=(np.asarray(1024.0, "float32"), np.asarray(7, "int32")))
    bp.save(tmp_path / "a", learner, w, s)
    assert [float(a) for a in bp.load(tmp_path / "a")[2].scale] == [1024.0, 7.0]


def test_other_programs_find_the_matrices_by_name(home, tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    learner, w, s = trained(home)
    bp.save(tmp_path / "a", learner, w, s)
    found = package.load_file(tmp_path / "a")
    for name, block in learner.weights(w).items():
        assert np.array_equal(found[name], block)
        assert found[f"s.rule.moments.1.{name}"].shape == block.shape
    assert found["s.step"] == 2


def test_the_dtype_can_be_another_one(home, tmp_path):
    learner, w, s = trained(home)
    bp.save(tmp_path / "a", learner, w, s)
    assert bp.load(tmp_path / "a", dtype="float32")[1].tolist() == w.astype("float32").tolist()
    with pytest.raises(bp.BackpropError, match="dtype of weights"):
        bp.load(tmp_path / "a", dtype="int32")


def test_a_fraction_that_is_too_long_is_refused(tmp_path):
    learner = bp.Learner(bp.chain(1, bp.layers.Linear(1, bias=False)), update=bp.GradientDescent("1/10"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [[Fraction(1, 3**50_000)]]})
    with pytest.raises(FileError, match="digits is too long to be saved"):
        bp.save(tmp_path / "a", learner, w, s)
    w, s = learner.init(backend="exact", weights={"dense1.w": [[Fraction(-2, 3**5_000)]]})
    bp.save(tmp_path / "a", learner, w, s)
    assert bp.load(tmp_path / "a")[1].tolist() == w.tolist()


def test_a_state_of_another_learner_is_refused(home, tmp_path):
    learner, w, _ = trained(home)
    other = bp.Learner(bp.chain(2, bp.Dense(1)), update=bp.Adam())
    with pytest.raises(bp.BackpropError, match="not that of this learner"):
        bp.save(tmp_path / "a", learner, w, other.init(dtype="float64")[1])


# ---------------------------------------------------------------- written whole or not at all
@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "no folder"])
def test_a_target_that_is_no_regular_file_is_left_alone(kind, tmp_path, home):
    path = tmp_path / "a"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/null")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "none" / "a"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileError, match=r"not a regular file|cannot be written: No such file"):
        bp.save(path, *trained(home))
    with pytest.raises(FileError, match=r"not a regular file|cannot be read"):
        bp.load(path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_an_error_while_writing_leaves_the_old_file_and_no_temporary_one(broken, tmp_path, home, monkeypatch):
    learner, w, s = trained(home)
    bp.save(tmp_path / "a", learner, w, s)
    before = (tmp_path / "a").read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":
        resource = pytest.importorskip("resource")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        monkeypatch.callback = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    else:
        monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[broken], fail)
    try:
        with pytest.raises(FileError, match=r"a cannot be written: (No space left|File too large)"):
            bp.save(tmp_path / "a", learner, w + 1, s)
    finally:
        if broken == "write":
            monkeypatch.callback()
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == before


def test_an_interruption_while_writing_leaves_no_temporary_file(tmp_path):
    def chunks():
        yield b"a"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write_whole(tmp_path / "a", chunks())
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- read strictly
def made(table, data=b"", *, text=None, length=None):
    """A file of this table."""
    header = text if text is not None else json.dumps(table).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def tensor(dtype="U8", shape=(2,), places=(0, 2), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(places)} | more


HOSTILE = {
    "empty": b"",
    "short": b"\x02\0\0",
    "pickle": b"\x80\x04\x95" + b"\0" * 40,
    "huge header": made({}, length=1 << 62),
    "header past the end": made({}, length=100),
    "header above the limit": made({}, text=b"{" + b" " * (1 << 20) + b"}"),
    "no JSON": made({}, text=b"{]"),
    "no object": made([1]),
    "no UTF-8": made({}, text=b'{"\xff": 1}'),
    "deep": made({}, text=b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "deep objects": made({}, text=b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "NaN": made({}, text=b'{"a": NaN}'),
    "infinity": made({}, text=b'{"a": 1e999}'),
    "many digits": made({}, text=b'{"a": ' + b"9" * 100_000 + b"}"),
    "duplicates": made({}, b"ab", text=b'{"a": %s, "a": %s}' % ((json.dumps(tensor()).encode(),) * 2)),
    "metadata no texts": made({"__metadata__": {"a": 1}}),
    "unknown dtype": made({"a": tensor("F4")}, b"ab"),
    "dtype of a type": made({"a": tensor(["U8"])}, b"ab"),
    "more": made({"a": tensor(more=1)}, b"ab"),
    "no shape": made({"a": {"dtype": "U8", "data_offsets": [0, 2]}}, b"ab"),
    "negative": made({"a": tensor(shape=(-2,))}, b"ab"),
    "truth": made({"a": tensor(shape=(True, 2))}, b"ab"),
    "fraction": made({"a": tensor(shape=(2.0,))}, b"ab"),
    "huge shape": made({"a": tensor(shape=(1 << 40, 1 << 40))}, b"ab"),
    "overflow": made({"a": tensor(shape=(1 << 32, 1 << 32), places=(0, 0))}),
    "axes": made({"a": tensor(shape=(1,) * 100_000, places=(0, 1))}, b"a"),
    "gap": made({"a": tensor(places=(1, 3))}, b"abc"),
    "overlap": made({"a": tensor(), "b": tensor(places=(1, 3))}, b"abc"),
    "backwards": made({"a": tensor(places=(2, 0))}, b"ab"),
    "too much": made({"a": tensor()}, b"abc"),
    "too little": made({"a": tensor()}, b"a"),
    "no hash": made({"a": tensor()}, b"ab"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_bounded_time_and_memory(name, tmp_path):
    (tmp_path / "a").write_bytes(HOSTILE[name])
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(FileError), opened(tmp_path / "a") as reader:
        reader.read()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - began < 2, "a file of at most 1 MiB"
    assert most < 64 << 20


def rewritten(path, change):
    """A model file with other metadata and a good hash."""
    with opened(path) as reader:
        header, data = reader.header, reader.read()
    told = json.loads(header.metadata["backprop_xp"])
    change(told)
    table = {name: {"dtype": a.dtype, "shape": a.shape, "data_offsets": [a.start, a.stop]}
             for name, a in header.tensors.items()}  # fmt: skip
    whole = made({"__metadata__": {"backprop_xp": json.dumps(told)}} | table, bytes(data[:-32]))
    path.write_bytes(whole + sha256(whole).digest())


def deep(told):
    data = {}
    inner = data
    for _ in range(200):
        inner["map"] = [["a", {}]]
        inner = inner["map"][0][1]
    told["learner"]["update"] = data


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told["learner"].update(unit="os.system"), "'os.system' is none of this library's"),
        (lambda told: told["learner"].update(unit="Net"), "Net has no setting"),
        (lambda told: told.update(learner={"unit": "updates.L2", "strength": 1}), "describe no learner"),
        (lambda told: told["learner"].update(shards=0), "settings of Learner cannot be used: the number"),
        (lambda told: told["learner"].update(clip={"fraction": "1/0"}), "is no setting of a unit"),
        (lambda told: told["learner"].update(clip={"eval": "1"}), "is no setting of a unit"),
        (lambda told: told["learner"].update(update={"map": [["a", 1]] * 300}), "is no setting of a unit"),
        (lambda told: told["learner"]["net"]["nodes"][0].update(layer=3), "settings of Net cannot be used"),
        (lambda told: told["learner"]["net"]["nodes"][-1]["layer"].update(units=2**62), "table is not that"),
        (lambda told: told["learner"]["net"]["nodes"][1]["layer"].update(units=10**2000), "cannot be used"),
        (lambda told: told["learner"]["net"]["nodes"][2]["layer"].update(units=4), "cannot be used"),
        (lambda told: told["learner"].update(update={"unit": "updates.GradientDescent"}), "needs 9 tensors"),
        (deep, "units are nested more than 32 deep"),
        (lambda told: told.update(format=99), "is of format 99, but this library reads 1"),
        (lambda told: told.update(dtype="float32"), "where its learner needs 'early.w', F32"),
        (lambda told: told.pop("rules"), "lack the versions"),
    ],
)  # fmt: skip
def test_metadata_that_do_not_fit_are_refused(change, why, home, tmp_path):
    bp.save(tmp_path / "a", *trained(home))
    rewritten(tmp_path / "a", lambda told: None)
    assert bp.load(tmp_path / "a")[0] == trained(home)[0]
    rewritten(tmp_path / "a", change)
    with pytest.raises(FileError, match=why):
        bp.load(tmp_path / "a")


def test_a_sparse_file_of_a_terabyte_takes_no_memory(tmp_path):
    size = 1 << 40
    table = {"a": tensor("F32", (size // 4,), (0, size)), "~sha256": tensor("U8", (32,), (size, size + 32))}
    net = bp.Learner(bp.chain(1, bp.layers.Linear(size // 4, bias=False)))
    told = {"format": 1, "order": 2, "rules": 1, "dtype": "float32", "learner": units.encode(net)}
    path = tmp_path / "a"
    path.write_bytes(made({"__metadata__": {"backprop_xp": json.dumps(told)}} | table))
    os.truncate(path, path.stat().st_size + size + 32)
    with pytest.raises(FileError, match=r"holds 1,099.5 GB, but .* of memory are free"):
        bp.load(path)


def test_hundreds_of_damaged_files_give_a_named_error_or_the_same_values(tmp_path):
    damage = script("damage")
    whole = damage.originals(tmp_path)
    kinds = {damage.attempt(tmp_path / "a", whole[k % len(whole)], k) for k in range(400)}
    assert "FileError" in kinds


def test_every_byte_of_a_file_counts(home, tmp_path):
    bp.save(tmp_path / "a", *trained(home))
    data = (tmp_path / "a").read_bytes()
    for k in range(0, len(data), 97):
        (tmp_path / "b").write_bytes(data[:k] + bytes([data[k] ^ 1]) + data[k + 1 :])
        with pytest.raises(FileError):
            bp.load(tmp_path / "b")


def test_our_reader_reads_what_the_package_wrote(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    kinds = {"BOOL": "bool", "F16": "float16", "F32": "float32", "F64": "float64"}
    kinds |= {f"{sign}{n}": f"{'u' * (sign == 'U')}int{n}" for sign in "UI" for n in (8, 16, 32, 64)}
    assert set(kinds) == set(SIZES)
    arrays = {name: np.arange(6).astype(kind).reshape(2, 3) for name, kind in kinds.items()}
    arrays |= {"scalar": np.asarray(3.0), "empty": np.zeros((0, 3))}
    package.save_file(arrays, tmp_path / "a", metadata={"a": "ä", "b": '"'})
    with opened(tmp_path / "a") as reader:
        assert reader.header.metadata == {"a": "ä", "b": '"'}
        assert set(reader.header.tensors) == set(arrays)
        for name, a in arrays.items():
            assert reader.bytes_of(name) == a.tobytes()
            assert reader.header.tensors[name].shape == a.shape


def test_the_package_reads_what_we_wrote(tmp_path):
    package = pytest.importorskip("safetensors")
    tensors = [("ä\n", "F64", (2,), np.ones(2)), ("b", "U8", (), b"x"), ("empty", "F32", (0, 2), b"")]
    safetensors.write(tmp_path / "a", tensors, {"backprop_xp": "{}"})
    with package.safe_open(tmp_path / "a", "numpy") as file:
        assert file.metadata() == {"backprop_xp": "{}"}
        assert set(file.keys()) == {"ä\n", "b", "empty", "~sha256"}
        assert file.get_tensor("ä\n").tolist() == [1, 1]
        before = (tmp_path / "a").read_bytes()[:-32]
        assert file.get_tensor("~sha256").tobytes() == sha256(before).digest()


def test_two_tensors_of_one_name_are_refused(tmp_path):
    with pytest.raises(FileError, match=r"two tensors of .* would be named 'a'"):
        safetensors.write(tmp_path / "a", [("a", "U8", (), b"x")] * 2, {})
