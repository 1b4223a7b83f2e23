"""Sources that read: any slice equals the whole, whatever it is read from; what cannot be read is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backprop_xp as bp

N, LABELS = 50, np.arange(50) * 7 % 3
X = np.random.default_rng(0).normal(size=(N, 4))
T = X[:, :1] * 2
SETTINGS = {"dtype": "float64", "window": 16}


def stream(start):
    for k in range(start, N, 7):
        yield X[k : k + 7], T[k : k + 7]


def from_the_start():
    return stream(0)


def parquet(folder):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    names = [f"c{k}" for k in range(4)]
    table = pa.table(dict(zip([*names, "t"], [*X.T, T[:, 0]], strict=True)))
    parquet.write_table(table, folder / "rows.parquet", row_group_size=9)
    return bp.data.Parquet(folder / "rows.parquet", "t", **SETTINGS)


def frame(library):
    pytest.importorskip("narwhals", reason="narwhals is not installed")
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    make = module.table if library == "pyarrow" else module.DataFrame
    return bp.data.Frame(make({f"c{k}": X[:, k] for k in range(4)} | {"t": T[:, 0]}), "t", **SETTINGS)


def memmap(folder):
    np.save(folder / "x.npy", X)
    return bp.data.Sliced(np.load(folder / "x.npy", mmap_mode="r"), T, **SETTINGS)


def npz(folder):
    np.savez(folder / "rows.npz", x=X, t=T)
    with np.load(folder / "rows.npz") as file:
        return bp.data.Sliced(file["x"], file["t"][:, 0], **SETTINGS)


def h5(folder):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    file = h5py.File(folder / "rows.h5", "w")
    file.create_dataset("x", data=X, chunks=(8, 4))
    file["t"] = T
    source = bp.data.Sliced(file["x"], file["t"], **SETTINGS)
    assert source.block == 8
    return source


def zarr(_):
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    x = zarr.array(X, chunks=(8, 4))
    return bp.data.Sliced(x, T, **SETTINGS)


def sparse(_):
    scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    return bp.data.Sparse(scipy_sparse.coo_matrix(X), T, **SETTINGS)


def torch_set(_):
    torch = pytest.importorskip("torch", reason="Torch is not installed")
    return bp.data.Rows(torch.utils.data.TensorDataset(torch.asarray(X), torch.asarray(T)), **SETTINGS)


class Named:
    """A data set whose items have names, many at a time, as those of Hugging Face."""

    def __len__(self):
        return N

    def __getitem__(self, k):
        pytest.fail("one by one")

    def __getitems__(self, at):
        return [{"x": X[k].reshape(2, 2).tolist(), "t": T[k, 0]} for k in at]


SOURCES = {
    "a memory-mapped file": memmap,
    "an archive": npz,
    "a column of a table": lambda _: bp.data.Sliced(np.hstack([T, X]), target=0, **SETTINGS),
    "h5py": h5,
    "zarr": zarr,
    "sparse": sparse,
    "items": lambda _: bp.data.Rows(list(zip(X, T, strict=True)), **SETTINGS),
    "named items": lambda _: bp.data.Rows(Named(), "x", "t", **SETTINGS),
    "Torch": torch_set,
    "a stream": lambda _: bp.data.Stream(stream, N, **SETTINGS),
    "Parquet": parquet,
    "pandas": lambda _: frame("pandas"),
    "polars": lambda _: frame("polars"),
    "pyarrow": lambda _: frame("pyarrow"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_any_slice_equals_the_whole_and_trains_as_arrays_do(name, tmp_path):
    source = SOURCES[name](tmp_path)
    assert (source.n, source.features, source.outputs, source.window) == (N, 4, 1, 16)
    assert str(N) in repr(source)
    for start, stop in ((0, N), (0, 1), (8, 9), (15, 33), (7, 21), (49, 50)):
        x, t = source.rows(start, stop)
        assert (x.dtype, t.dtype, x.flags.c_contiguous) == (np.float64, np.float64, True)
        assert np.array_equal(x, X[start:stop])
        assert np.array_equal(t, T[start:stop])
    with pytest.raises(bp.BackpropError, match="0 <= start < stop <= 50"):
        source.rows(3, 51)
    learner = bp.Learner(bp.chain(4, bp.Dense(1)))
    stored = bp.data.Stored(X, T)
    stored.window, stored.block, stored.forwards = source.window, source.block, name == "a stream"
    w, s = learner.init(dtype="float64")
    found = bp.fit(learner, w, s, source, batch_size=8, epochs=2, validate=source)
    want = bp.fit(learner, w, s, stored, batch_size=8, epochs=2, validate=stored)
    assert np.array_equal(found.w, want.w)
    assert found.history[-1].validation == want.history[-1].validation


@given(data=st.data())
def test_any_slice_of_any_stream_equals_the_slice_of_the_whole(data):
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    n = sum(sizes)
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=6))) if n > 1 else []

    def batches():
        start = 0
        for size in sizes:
            yield np.arange(start, start + size)[:, None], np.zeros((size, 1))
            start += size

    source = bp.data.Stream(batches, n)
    for _ in range(2):
        for start, stop in zip([0, *cuts], [*cuts, n], strict=True):
            assert source.rows(start, stop)[0][:, 0].tolist() == list(range(start, stop))


def test_a_stream_is_read_forwards_and_goes_on_only_where_it_can_begin_anywhere():
    learner, settings = bp.Learner(bp.chain(4, bp.Dense(1))), {"batch_size": 8, "epochs": 2, "began": 0}
    begun = []

    def anywhere(start):
        begun.append(start)
        return stream(start)

    def stopped(source):
        w, s = learner.init(dtype="float64")
        return bp.fit(learner, w, s, source, **settings, progress=lambda report: not 16 <= report.rows < N)

    whole = bp.fit(learner, *learner.init(dtype="float64"), SOURCES["a stream"](None), **settings)
    source = bp.data.Stream(anywhere, N, **SETTINGS)
    w, s, history = stopped(source)
    assert history[-1].rows < N
    assert np.array_equal(bp.fit(learner, w, s, source, **settings).w, whole.w)
    assert begun == [0, 16, 0]
    source = bp.data.Stream(from_the_start, N, **SETTINGS)
    w, s, _ = stopped(source)
    source = bp.data.Stream(from_the_start, N, **SETTINGS)
    with pytest.raises(bp.BackpropError, match="this stream cannot begin at row 16"):
        bp.fit(learner, w, s, source, **settings)


def test_a_stream_that_failed_does_not_go_on_with_other_rows():
    def batches():
        yield X[:20], T[:20]
        yield X[20:25], T[20:26]
        yield X[25:], T[25:]

    source = bp.data.Stream(batches, N, dtype="float64")
    source.rows(0, 16)
    with pytest.raises(bp.BackpropError, match="equally many"):
        source.rows(16, 30)
    with pytest.raises(bp.BackpropError, match="cannot begin at row 16"):
        source.rows(16, 30)


def test_chunks_are_blocks_as_libraries_tell_them():
    chunked = {"shape": X.shape, "chunks": ((30, 20), (4,)), "__getitem__": lambda _, k: X[k]}
    assert bp.data.Sliced(type("Chunked", (), chunked)(), T).block == 30


def test_labels_tell_how_many_classes_there_are_or_are_told():
    assert bp.data.Sliced(X, LABELS).outputs == 3
    assert bp.data.Sliced(X, LABELS, units=5).outputs == 5
    assert bp.data.Sliced(X, LABELS).rows(0, 3)[1].tolist() == LABELS[:3].tolist()
    assert bp.data.Rows(list(zip(X, LABELS, strict=True)), units=3).rows(1, 2)[1].dtype == np.int32


def test_bytes_stay_bytes_and_images_are_laid_flat():
    x, t, v = bp.data.Sliced(np.ones((3, 2, 2), np.uint8), np.zeros((3, 1)), weight=np.ones(3)).rows(0, 2)
    assert (x.dtype, x.shape, t.dtype, v.tolist()) == (np.uint8, (2, 4), np.float32, [1.0, 1.0])


# ---------------------------------------------------------------- tables
TABLE = {
    "size": [1.0, 2.0, 3.0, 4.0],
    "kind": ["b", "a", "c", "a"],
    "stars": [5, 1, 5, 3],
    "price": [100.5, 20.0, 90.0, 30.0],
    "sold": [True, False, True, True],
}


@pytest.fixture(params=["pandas", "polars", "pyarrow", "a Parquet file"])
def table(request, tmp_path):
    """`table(target, **settings)` on each library."""
    name = request.param

    def make(target, **settings):
        if name == "a Parquet file":
            pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
            from pyarrow import parquet

            columns = TABLE | {"kind": pa.array(TABLE["kind"]).dictionary_encode()}
            parquet.write_table(pa.table(columns), tmp_path / "t.parquet", row_group_size=3)
            return bp.data.Parquet(tmp_path / "t.parquet", target, **settings)
        pytest.importorskip("narwhals", reason="narwhals is not installed")
        module = pytest.importorskip(name, reason=f"{name} is not installed")
        frame = module.table(TABLE) if name == "pyarrow" else module.DataFrame(TABLE)
        return bp.data.Frame(frame, target, **settings)

    return make


@pytest.mark.parametrize(
    ("target", "task", "classes", "labels"),
    [
        ("kind", None, ("a", "b", "c"), [1, 0, 2, 0]),
        ("stars", None, (1, 3, 5), [2, 0, 2, 1]),
        ("sold", None, (False, True), [1, 0, 1, 1]),
        ("price", "classification", (20.0, 30.0, 90.0, 100.5), [3, 0, 2, 1]),
        ("price", None, (), [[100.5], [20.0], [90.0], [30.0]]),
        ("stars", "regression", (), [[5.0], [1.0], [5.0], [3.0]]),
    ],
)
def test_values_of_a_target_are_classes_or_numbers(table, target, task, classes, labels):
    features = [name for name in TABLE if name not in (target, "kind")]
    source = table(target, features=features, task=task)
    x, t = source.rows(0, 4)
    assert source.classes == classes
    assert source.outputs == max(1, len(classes))
    assert t.tolist() == labels
    assert x.tolist() == [[float(TABLE[name][k]) for name in features] for k in range(4)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "prize"}, "there is no column 'prize'; the columns are 'size', 'kind'"),
        ({"target": "price"}, "columns that hold no numbers: 'kind'; leave them out"),
        ({"target": "kind", "features": []}, "no column is left as a feature beside the target 'kind'"),
        ({"target": "kind", "features": ["size"], "task": "poetry"}, "got 'poetry'"),
        ({"target": "kind", "features": ["size"], "task": "regression"}, "holds no numbers"),
    ],
)
def test_columns_that_cannot_be_used_are_named(table, settings, message):
    with pytest.raises(bp.BackpropError, match=message):
        table(**settings)


def test_a_missing_class_is_an_error():
    pytest.importorskip("narwhals", reason="narwhals is not installed")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"x": [1.0, 2.0], "t": ["a", None]})
    with pytest.raises(bp.BackpropError, match="missing values"):
        bp.data.Frame(frame, "t")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bp.data.Sliced(X), "either as t, or as target="),
        (lambda: bp.data.Sliced(X, T, target=0), "either as t, or as target="),
        (lambda: bp.data.Sliced(X, T[:3]), r"got \(50, 4\), \(3, 1\)"),
        (lambda: bp.data.Sliced(X, target=4), "the number of a column"),
        (lambda: bp.data.Sliced(X, T, units=2), "2 units, got 1"),
        (lambda: bp.data.Sliced(X, T, dtype="float16"), "float16"),
        (lambda: bp.data.Sliced(X, LABELS - 1), "labels must be 0, 1, 2"),
        (lambda: bp.data.Sliced(np.asarray([["a"]]), T[:1]), "rows must be numbers"),
        (lambda: bp.data.Sliced(X[:0], T[:0]), "the number of rows"),
        (lambda: bp.data.Sparse(X, T), "a SciPy sparse matrix, got a ndarray"),
        (lambda: bp.data.Rows(iter([])), r"must have len\(items\)"),
        (lambda: bp.data.Rows([{"a": 1}]), "inputs at 0 and a target at 1"),
        (lambda: bp.data.Rows([(X[0], 1)]), "say how many classes there are, with units="),
        (lambda: bp.data.Stream(stream(0), N), "a function that makes the iterator"),
        (lambda: bp.data.Stream(lambda: iter([X]), N), "yields batches"),
        (lambda: bp.data.Stream(lambda: iter([(X, T[:2])]), N), "equally many"),
        (lambda: bp.data.Stream(stream, N + 1).rows(0, N + 1), "the stream ended after 50 of 51 rows"),
        (lambda: bp.data.Stream(lambda: iter([(X, LABELS)]), N), "with units="),
        (
            lambda: pytest.importorskip("narwhals") and bp.data.Frame(SimpleNamespace(), "t"),
            "a data frame of pandas",
        ),
        (
            lambda: pytest.importorskip("pyarrow") and bp.data.Parquet("no such file", "t"),
            "no such file cannot be read",
        ),
    ],
)
def test_what_cannot_be_read_is_said(make, message):
    with pytest.raises(bp.BackpropError, match=message):
        make()
