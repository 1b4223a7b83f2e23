"""The estimators: scikit-learn's own checks, its tools around them, and what is theirs alone."""

import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp

pytest.importorskip("sklearn", minversion="1.8")

from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris, make_regression
from sklearn.ensemble import StackingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from backprop_xp.cli import main
from backprop_xp.sklearn import BackpropClassifier, BackpropRegressor, from_sklearn, steps, to_sklearn

try:
    from sklearn.callback import ScoringMonitor
except ImportError:  # scikit-learn 1.8
    ScoringMonitor = None

ROOT = Path(bp.__file__).parent.parent


CHECKS = parametrize_with_checks(
    [each(rate=0.05, max_iter=40) for each in (BackpropRegressor, BackpropClassifier)]
).mark


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), ids=CHECKS.kwargs["ids"])  # 1.8: a generator
def test_scikit_learns_checks_pass(estimator, check):
    if "cuda" in str(getattr(check, "keywords", "")):  # scikit-learn asks how Torch was built, not for a GPU
        torch = pytest.importorskip("torch", reason="torch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("no GPU for Torch")
    check(estimator)


@pytest.fixture(scope="module")
def flowers():
    x, y = load_iris(return_X_y=True)
    names = np.asarray(["setosa", "versicolor", "virginica"])
    return (x - x.mean(axis=0)) / x.std(axis=0), names[y]


@pytest.fixture(scope="module")
def line():
    return make_regression(80, 3, noise=1.0, random_state=0)


def small(**settings):
    return BackpropClassifier(**{"hidden": (8,), "max_iter": 40, "rate": 0.03, "random_state": 0} | settings)


# ---------------------------------------------------------------- scikit-learn's tools
def test_grid_search_over_a_pipeline(flowers):
    pipe = Pipeline([("scale", StandardScaler()), ("net", small())])
    search = GridSearchCV(
        pipe, {"net__hidden": [(), (8,)], "net__update": ["adam", bp.updates.Lion(0.01)]}, cv=2
    )
    search.fit(*flowers)
    assert search.best_score_ > 0.9
    assert len(search.cv_results_["params"]) == 4


def test_cross_validation_in_two_processes(flowers):
    pytest.importorskip("joblib")
    one = cross_val_score(small(), *flowers, cv=2)
    assert cross_val_score(small(), *flowers, cv=2, n_jobs=2).tolist() == one.tolist()
    assert one.mean() > 0.9


def test_calibration_stacking_and_permutation_importance(flowers):
    x, y = flowers
    assert CalibratedClassifierCV(small(), cv=2).fit(x, y).score(x, y) > 0.9
    stack = StackingClassifier([("net", small()), ("line", LogisticRegression())], cv=2).fit(x, y)
    assert stack.score(x, y) > 0.9
    found = permutation_importance(small().fit(x, y), x, y, n_repeats=2, random_state=0).importances_mean
    assert found[2:].min() > found[:2].max(), "petals tell more than sepals"


def test_weights_and_validation_rows_are_routed_through_a_pipeline(flowers):
    x, y = flowers
    v = np.where(y == "setosa", 0.0, 1.0)
    with config_context(enable_metadata_routing=True):
        net = small().set_fit_request(sample_weight=True, X_val=True, y_val=True)
        pipe = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False), net, transform_input=["X_val"]
        )
        pipe.fit(x, y, sample_weight=v, X_val=x[::3], y_val=y[::3])
    assert "setosa" not in set(pipe.predict(x))
    assert len(pipe[-1].validation_curve_) == pipe[-1].n_iter_


@pytest.mark.skipif(ScoringMonitor is None, reason="scikit-learn 1.8 has no callbacks")
def test_scikit_learns_callbacks_see_every_epoch_and_end_a_training(flowers):
    monitor = ScoringMonitor(scoring="accuracy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are experimental
        net = small(max_iter=5, patience=None).set_callbacks(monitor)
        net.fit(*flowers)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert net.n_iter_ == len(rows) == 5
    assert rows[-1]["accuracy"] == net.score(*flowers)


class Ends:
    """A callback of scikit-learn that ends a training after its second epoch."""

    def setup(self, estimator, context):
        """Nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and context.task_id == 1


@pytest.mark.skipif(ScoringMonitor is None, reason="scikit-learn 1.8 has no callbacks")
def test_a_callback_of_scikit_learn_ends_a_training(flowers):
    assert small().set_callbacks(Ends()).fit(*flowers).n_iter_ == 2


def test_a_callback_that_returns_false_ends_the_training(flowers):
    seen = []
    net = small(callbacks=[lambda record: seen.append(record.loss) or len(seen) < 3]).fit(*flowers)
    assert net.n_iter_ == 3
    assert net.loss_curve_ == seen


def test_a_pickle_predicts_the_same_in_another_process(flowers, tmp_path):
    x, y = flowers
    net = small().fit(x, y)
    path = tmp_path / "net.pickle"
    path.write_bytes(pickle.dumps((net, x)))
    code = f"import pickle; net, x = pickle.load(open({str(path)!r}, 'rb')); print(*net.predict(x))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == net.predict(x).tolist()


def test_importing_the_library_does_not_import_scikit_learn():
    code = "import sys, backprop_xp; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---------------------------------------------------------------- what the settings do
def test_fit_is_the_librarys_own_fit(line):
    x, y = line
    net = BackpropRegressor((4,), rate=0.1, max_iter=3, patience=None, random_state=3).fit(x, y)
    seed = int(np.random.RandomState(3).randint(2**31 - 1))
    learner = bp.Learner(bp.chain(3, bp.Dense(4, bp.relu), bp.Dense(1)), update=bp.Adam(0.1))
    source = bp.data.Stored(x, y[:, None])
    w, s, history = bp.fit(
        learner,
        *learner.init(seed, dtype="float64", initial={"*.w": bp.initialization.GlorotUniform()}),
        source,
        epochs=3,
        batch_size=80,
        shuffle=False,
    )
    assert net.learner_ == learner
    assert net.weights_.tolist() == w.tolist()
    assert net.loss_curve_ == [epoch.loss for epoch in history]
    assert int(net.state_.step) == int(s.step)


def test_hidden_layers_are_widths_or_layers_or_both(line):
    x, y = line
    hidden = (8, bp.layers.LayerNorm(), bp.Dense(4, bp.tanh), 3)
    net = BackpropRegressor(hidden, activation=["relu", "silu"], dropout=0.25, max_iter=1).fit(x, y)
    found = [node.layer for node in net.learner_.net.nodes[1:]]
    drop = bp.layers.Dropout(0.25)
    assert found == [
        bp.Dense(8, bp.relu), drop, bp.layers.LayerNorm(), bp.Dense(4, bp.tanh),
        bp.Dense(3, bp.activations.silu), drop, bp.Dense(1),
    ]  # fmt: skip
    assert net.transform(x).shape == (80, 3)
    assert net.get_feature_names_out().tolist()[-1] == "backpropregressor2"


@pytest.mark.parametrize(
    ("settings", "of", "why"),
    [
        ({"activation": "rleu"}, BackpropRegressor, "activation must be one of 'identity'"),
        ({"activation": ["relu", "relu"]}, BackpropRegressor, "one for each of 1 widths; got 2"),
        ({"loss": "hinge"}, BackpropRegressor, "loss must be .*'half_squared_error'"),
        ({"loss": "binary_cross_entropy"}, BackpropClassifier, "loss must be .*'softmax_cross_entropy'"),
        ({"loss": "huber"}, BackpropClassifier, "loss must be"),
        ({"update": "adma"}, BackpropRegressor, "update must be one of"),
        ({"schedule": "cosinus"}, BackpropRegressor, "schedule must be one of 'cosine'"),
        ({"schedule": "cosine", "update": bp.Adam()}, BackpropRegressor, "give the rule object the schedule"),
        ({"batch_size": 0}, BackpropRegressor, "batch_size must be 'auto' or a positive integer"),
        ({"early_stopping": True, "validation_fraction": 1}, BackpropRegressor, "must be between 0 and 1"),
        ({"patience": 0}, BackpropRegressor, "patience of EarlyStop"),
        ({"penalty": -1}, BackpropRegressor, "strength of a penalty"),
        ({"max_iter": 2.7}, BackpropRegressor, "max_iter must be a positive integer, got 2.7"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(settings, of, why):
    with pytest.raises(bp.BackpropError, match=why):
        of(**{"max_iter": 1} | settings).fit([[0.0], [1.0], [2.0]], [0, 1, 1])


def test_penalty_clip_schedule_and_batch_size_reach_the_learner(line):
    x, y = line
    net = BackpropRegressor(
        penalty=0.5,
        clip=bp.updates.ClipByNorm(1),
        schedule="cosine",
        batch_size=32,
        max_iter=2,
        update="momentum",
    ).fit(x, y)
    assert net.learner_.penalty == {"*.w": bp.updates.L2(0.5)}
    assert net.learner_.clip == bp.updates.ClipByNorm(1)
    assert net.learner_.update == bp.updates.Momentum(bp.schedules.Cosine(0.01, 6))
    assert int(net.state_.step) == 6


def test_losses_by_name_fit_what_they_are_for():
    rng = np.random.default_rng(0)
    x = np.ones((400, 1))
    y = rng.exponential(size=400)
    settings = {"hidden": (), "rate": 0.02, "max_iter": 600, "batch_size": 400, "tol": 0, "patience": 50}
    for loss, wanted in (
        ("quantile", np.median(y)), (bp.losses.Quantile(0.9), np.quantile(y, 0.9)), ("poisson", y.mean()),
        (None, y.mean()), ("mean_absolute_error", np.median(y)),
    ):  # fmt: skip
        found = BackpropRegressor(loss=loss, random_state=0, **settings).fit(x, y).predict(x[:1])
        assert abs(found[0] - wanted) < 0.05, loss


def test_standardised_inputs_are_the_same_as_a_scaler_before(flowers):
    x, y = load_breast_cancer(return_X_y=True)
    net = small(standardize=True, max_iter=20).fit(x, y)
    pipe = make_pipeline(StandardScaler(), small(max_iter=20)).fit(x, y)
    np.testing.assert_allclose(net.scale_, pipe[0].scale_, rtol=1e-10)  # two ways to a variance
    np.testing.assert_allclose(net.predict_proba(x), pipe.predict_proba(x), atol=1e-6)  # 60 steps apart
    assert net.score(x, y) > 0.97


def test_ones_own_validation_rows_end_the_training_and_the_best_weights_stay(line):
    x, y = line
    net = BackpropRegressor(rate=0.3, max_iter=300, patience=3, tol=0, random_state=0)
    net.fit(x[:60], y[:60], X_val=x[60:], y_val=y[60:], sample_weight_val=np.ones(20))
    assert net.n_iter_ < 300
    assert len(net.validation_curve_) == net.n_iter_
    best = np.square(net.predict(x[60:]) - y[60:]).mean() / 2
    assert abs(best / min(net.validation_curve_) - 1) < 1e-12


def test_a_share_is_set_aside(flowers):
    net = small(early_stopping=True, validation_fraction=0.2).fit(*flowers)
    assert len(net.validation_curve_) == net.n_iter_


def test_a_warm_start_goes_on_with_the_moments(flowers):
    whole = small(patience=None, max_iter=6, batch_size=150).fit(*flowers)
    parts = small(patience=None, max_iter=2, batch_size=150, warm_start=True)
    for _ in range(3):
        parts.fit(*flowers)
    assert parts.n_iter_ == 6
    assert parts.weights_.tolist() == whole.weights_.tolist()
    assert parts.loss_curve_ == whole.loss_curve_
    with pytest.raises(bp.BackpropError, match="the layers have changed"):
        parts.set_params(hidden=(3,)).fit(*flowers)


def test_partial_fit_is_an_epoch(flowers):
    x, y = flowers
    net = small()
    for _ in range(3):
        net.partial_fit(x[:100], y[:100], classes=["setosa", "versicolor", "virginica"])
    assert net.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    whole = small(patience=None, max_iter=3).fit(x[:100], y[:100])
    assert net.n_iter_ == whole.n_iter_ == 3
    net.partial_fit(x[100:], y[100:])
    with pytest.raises(ValueError, match="y has labels that are not among the classes"):
        net.partial_fit(x[:2], ["setosa", "rose"])


def test_class_weights_are_sample_weights(flowers):
    x, y = flowers
    weight = {"setosa": 0.0, "versicolor": 2.0, "virginica": 1.0}
    settings = {"batch_size": 150, "max_iter": 10, "patience": None}
    by_class = small(class_weight=weight, **settings).fit(x, y)
    by_row = small(**settings).fit(x, y, sample_weight=[weight[name] for name in y])
    np.testing.assert_allclose(by_class.weights_, by_row.weights_, rtol=1e-12)
    several = np.stack([y == name for name in weight], axis=1).astype(int)
    with pytest.raises(bp.BackpropError, match="y is multilabel: use sample_weight"):
        small(class_weight={0: 2.0}, **settings).fit(x, several)


def test_two_classes_decide_alike_by_every_loss(flowers):
    x, y = flowers[0][50:], flowers[1][50:]
    for loss in (None, "softmax_cross_entropy", "hinge"):
        net = small(loss=loss).fit(x, y)
        decision = net.decision_function(x)
        assert decision.shape == (100,)
        assert net.classes_[(decision > 0).astype(int)].tolist() == net.predict(x).tolist()
        assert hasattr(net, "predict_proba") == (loss != "hinge")
        if loss != "hinge":
            p = net.predict_proba(x)
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-15)
            np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-12)


def test_many_classes_by_one_against_all_others(flowers):
    net = small(loss="sigmoid_cross_entropy").fit(*flowers)
    p = net.predict_proba(flowers[0])
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)
    assert net.score(*flowers) > 0.9


def test_several_labels_at_once():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    y = (x[:, :2] > 0).astype(int)
    net = small(max_iter=200).fit(x, y)
    assert net.predict(x).shape == net.predict_proba(x).shape == (100, 2)
    assert net.score(x, y) > 0.9


# ---------------------------------------------------------------- explained, saved, converted
def test_a_fitted_estimator_explains_itself_by_its_names(flowers):
    x, y = flowers
    net = small().fit(x, y)
    before = net.weights_.copy()
    found = net.explain(x[:2], y[:2], batch_size=2, labels={"inputs": ["a", "b", "c", "d"]})
    layers = found.data["runs"][0]["net"]["layers"]
    assert layers[0]["labels"] == ["a", "b", "c", "d"]
    assert layers[-1]["labels"] == ["setosa", "versicolor", "virginica"]
    assert net.weights_.tolist() == before.tolist()


@pytest.mark.parametrize("kind", ["text", "pair", "several", "numbers"])
def test_a_file_brings_the_estimator_back(kind, flowers, line, tmp_path):
    x, y = flowers
    net = small(
        hidden=[8, bp.layers.LayerNorm()], update={"*.b": bp.Adam(0.1), "*": bp.Adam()}, standardize=True
    )
    if kind == "numbers":
        (x, y), net = line, BackpropRegressor(loss=bp.losses.Huber(2.0), max_iter=3, callbacks=[print][:0])
    elif kind == "pair":
        y = y == "setosa"
    elif kind == "several":
        y = np.stack([y == "setosa", y == "virginica"], axis=1).astype(int)
    net.fit(x, y, X_val=x[:9], y_val=y[:9])
    net.save(tmp_path / "net")
    again = type(net).load(tmp_path / "net")
    assert again.predict(x).tolist() == net.predict(x).tolist()
    assert again.validation_curve_ == net.validation_curve_
    assert repr(again.learner_) == repr(net.learner_)
    assert again.partial_fit(x, y).weights_.tolist() == net.partial_fit(x, y).weights_.tolist()
    assert bp.load(tmp_path / "net")[0] == again.learner_
    with pytest.raises(bp.errors.FileError, match="it holds no "):
        (BackpropClassifier if kind == "numbers" else BackpropRegressor).load(tmp_path / "net")


def test_a_file_without_an_estimator_is_refused(tmp_path):
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    bp.save(tmp_path / "net", learner, *learner.init(0))
    with pytest.raises(bp.errors.FileError, match="it holds no BackpropRegressor"):
        BackpropRegressor.load(tmp_path / "net")


def fitted_mlp(kind, flowers, line):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if kind == "numbers":
            return MLPRegressor(hidden_layer_sizes=(5, 4), activation="tanh", max_iter=3, random_state=0).fit(
                *line
            ), line[0]
        x, y = flowers
        y = {"text": y, "pair": y == "setosa", "several": np.stack([y == "setosa", y != "setosa"], 1)}[kind]
        return MLPClassifier((5, 4), activation="logistic", max_iter=3, random_state=0).fit(x, y), x


@pytest.mark.parametrize("kind", ["text", "pair", "several", "numbers"])
def test_an_mlp_of_scikit_learn_predicts_the_same_here_and_back(kind, flowers, line):
    mlp, x = fitted_mlp(kind, flowers, line)
    net = from_sklearn(mlp)
    back = to_sklearn(net)
    method = "predict" if kind == "numbers" else "predict_proba"
    wanted = getattr(mlp, method)(x)
    for each in (net, back):
        # sums of at most 5 products; of the sigmoid scikit-learn uses another formula
        np.testing.assert_allclose(getattr(each, method)(x), wanted, rtol=1e-12, atol=1e-14)
        assert each.predict(x).tolist() == mlp.predict(x).tolist() or kind == "numbers"
    assert net.partial_fit(x, mlp.predict(x)).n_iter_ == mlp.n_iter_ + 1


def test_what_scikit_learn_has_no_mlp_for_is_refused(flowers, line):
    with pytest.raises(bp.BackpropError, match="expected a fitted MLPClassifier"):
        from_sklearn(LogisticRegression())
    for settings in (
        {"activation": "silu"},
        {"hidden": (bp.Dense(3), bp.layers.LayerNorm())},
        {"standardize": True},
    ):
        net = BackpropRegressor(max_iter=1, **settings).fit(*line)
        with pytest.raises(bp.BackpropError, match=r"this net has others"):
            to_sklearn(net)
    with pytest.raises(bp.BackpropError, match="has another loss"):
        to_sklearn(small(loss="hinge").fit(*flowers))


# ---------------------------------------------------------------- arrays of any library
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_arrays_stay_in_their_library(name, flowers):
    x, y = flowers
    pytest.importorskip(name)
    X = bp.asarray(x, backend=name, dtype="float32")
    with config_context(array_api_dispatch=True):
        net = small(standardize=True, early_stopping=name == "torch", max_iter=2).fit(X, y)
        p = net.predict_proba(X)
        assert type(p) is type(net.weights_) is type(net.transform(X)) is type(X)
        assert p.dtype == net.weights_.dtype == net.mean_.dtype == X.dtype
        assert set(net.predict(X).tolist()) <= set(y), "labels that are text are NumPy's"
        with pytest.raises(ValueError, match=r"BackpropClassifier.predict\(\) must use the same namespace"):
            net.predict(x)
    assert clone(net).fit(x, y).weights_.shape == net.weights_.shape


def test_bytes_are_numbers_from_0_to_255():
    x = np.asarray([[0], [100], [255]], dtype="uint8")
    net = BackpropRegressor((), max_iter=1).fit(x, [0.0, 1.0, 2.0])
    assert net.predict(x).tolist() == net.predict(x.astype(float)).tolist()


def test_names_of_columns_are_kept_and_checked(line, tmp_path):
    pandas = pytest.importorskip("pandas")
    x, y = line
    frame = pandas.DataFrame(x, columns=["a", "b", "c"])
    net = BackpropRegressor(max_iter=1).fit(frame, y)
    assert net.explain(frame[:1], y[:1]).data["runs"][0]["net"]["layers"][0]["labels"] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        net.predict(frame[["b", "a", "c"]])
    net.save(tmp_path / "net")
    assert BackpropRegressor.load(tmp_path / "net").feature_names_in_.tolist() == ["a", "b", "c"]


# ---------------------------------------------------------------- compiled steps
class Scaled(bp.losses.HalfSquaredError):
    """A loss of one's own, whose factor is no field: two of them are equal, and compute other things."""

    def __init__(self, factor):
        object.__setattr__(self, "factor", factor)

    def error(self, o, t, *, xp):
        return self.factor * super().error(o, t, xp=xp)


def test_equal_fits_of_a_thread_compile_once_and_other_ones_do_not(line, monkeypatch):
    made = []
    compiled = bp.Learner.compile
    monkeypatch.setattr(bp.Learner, "compile", lambda self, *a: made.append(self) or compiled(self, *a))
    monkeypatch.setattr("backprop_xp.sklearn.steps._kept", steps._Kept())

    def weights(**settings):
        settings = {"hidden": (4,), "max_iter": 3, "random_state": 0, "update": "gradient_descent"} | settings
        return BackpropRegressor(**settings).fit(*line).weights_.tolist()

    assert weights() == weights(random_state=0)
    assert len(made) == 1
    assert weights(rate=0.02) != weights()
    assert weights(random_state=1) != weights()
    assert len(made) == 2
    assert weights(loss=Scaled(1.0)) == weights() != weights(loss=Scaled(2.0))
    assert len(made) == 4, "a unit of someone else's is compiled anew"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(weights).result() == weights()
    assert len(made) == 5, "a step is for one thread at a time"


# ---------------------------------------------------------------- frames with categories, sparse matrices
CITIES = ["Rome", "Oslo", "Lima"]


def frame_in(library, n=120, cities=CITIES):
    """A frame of two columns of text and two of numbers, and y that follows from city and size."""
    rng = np.random.default_rng(0)
    size, code = rng.normal(size=n), rng.integers(0, len(cities), n)
    table = {
        "size": size.tolist(),
        "city": [cities[k] for k in code],
        "noise": rng.normal(size=n).tolist(),
        "kind": ["b" if k % 2 else None for k in range(n)],
    }
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    frame = (module.table if library == "pyarrow" else module.DataFrame)(table)
    return frame, size + np.asarray([-3.0, 0.0, 3.0, 0.0])[code]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_of_text_are_learnt_as_categories(library, tmp_path):
    frame, y = frame_in(library)
    net = BackpropRegressor((8,), rate=0.05, random_state=0, standardize=True).fit(frame, y)
    assert net.categories_ == {"city": ["Lima", "Oslo", "Rome"], "kind": ["b"]}
    assert net.feature_names_in_.tolist() == ["size", "city", "noise", "kind"]
    assert net.learner_.net.shapes["embedding1.w"] == (4, 2)
    assert net.score(frame, y) > 0.95
    assert net.predict(frame).tolist() == net.predict(frame_in("pandas")[0]).tolist(), "frames are alike"
    net.save(tmp_path / "net")
    again = BackpropRegressor.load(tmp_path / "net")
    assert again.predict(frame).tolist() == net.predict(frame).tolist()
    assert again.fit(frame, y).categories_ == net.categories_


def test_a_category_of_pandas_is_one_whatever_its_type():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame, y = frame_in("pandas")
    wanted = BackpropRegressor((4,), max_iter=3, random_state=0).fit(frame, y).predict(frame)
    typed = frame.astype({"city": pandas.CategoricalDtype(CITIES), "kind": "category"})
    found = BackpropRegressor((4,), max_iter=3, random_state=0).fit(typed, y)
    assert found.predict(typed).tolist() == found.predict(frame).tolist() == wanted.tolist()


def test_an_unknown_category_counts_as_a_vector_of_zeros():
    frame, y = frame_in("pandas")
    net = BackpropRegressor((8,), rate=0.05, max_iter=20, random_state=0).fit(frame, y)
    tables = net.learner_.weights(net.weights_)
    assert tables["embedding1.w"][-1].tolist() == [0.0, 0.0], "no row of city was missing"
    assert tables["embedding2.w"][-1].tolist() != [0.0], "kind was missing in every other row: that is learnt"
    unknown = net.predict(frame.assign(city="Kyiv"))
    missing = net.predict(frame.assign(city=None).astype({"city": "string"}))
    assert unknown.tolist() == missing.tolist()
    assert np.isfinite(unknown).all()
    other, t = frame_in("pandas", cities=[*CITIES, "Kyiv"])
    net.fit(frame, y, X_val=other, y_val=t)
    assert len(net.validation_curve_) == net.n_iter_, "validation rows may have them too"


def test_columns_of_text_alone_are_enough():
    frame, y = frame_in("pandas")
    for names in (["city"], ["city", "kind"]):
        net = BackpropClassifier((4,), rate=0.05, random_state=0).fit(frame[names], y > 0)
        assert net.score(frame[names], y > 0) > 0.8
        assert net.partial_fit(frame[names], y > 0).predict_proba(frame[names]).shape == (120, 2)


def test_categories_are_explained_by_name_and_other_inputs_are_refused():
    frame, y = frame_in("pandas")
    net = BackpropRegressor((4,), max_iter=2, random_state=0).fit(frame, y)
    layers = {each["name"]: each for each in net.explain(frame[:1], y[:1]).data["runs"][0]["net"]["layers"]}
    assert layers["numbers"]["labels"] == ["size", "noise"]
    assert layers["category1"]["labels"] == ["city"]
    with pytest.raises(bp.BackpropError, match="X must be a frame with the columns 'city', 'kind'"):
        net.predict(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="feature names"):
        net.predict(frame[["city", "size", "noise", "kind"]])
    with pytest.raises(ValueError, match="contains NaN"):
        net.predict(frame.assign(size=np.nan))
    with pytest.raises(bp.BackpropError, match="have names of text, got 0, 1"):
        net.fit(frame.set_axis(range(4), axis=1), y)
    with pytest.raises(bp.BackpropError, match="this net has others"):
        to_sklearn(net)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames_of_numbers_are_taken_by_name(library, line):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "polars" and ScoringMonitor is None:
        pytest.skip("scikit-learn 1.8 knows no names of the columns of polars")
    x, y = line
    columns = dict(zip("abc", x.T.tolist(), strict=True))
    frame = (module.table if library == "pyarrow" else module.DataFrame)(columns)
    net = BackpropRegressor(max_iter=2, random_state=0).fit(frame, y)
    assert net.feature_names_in_.tolist() == ["a", "b", "c"]
    assert (
        net.predict(frame).tolist()
        == BackpropRegressor(max_iter=2, random_state=0).fit(x, y).predict(x).tolist()
    )


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dates_are_refused_since_a_net_takes_numbers(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    day = np.datetime64("2026-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    frame = module.DataFrame({"size": [1.0, 2.0, 3.0, 4.0], "day": day})
    with pytest.raises(bp.BackpropError, match="columns of dates or times: 'day'; give numbers"):
        BackpropRegressor(max_iter=1).fit(frame, [0.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_matrix"])
@pytest.mark.parametrize("standardize", [False, True])
def test_a_sparse_matrix_is_learnt_as_the_dense_one(form, standardize, flowers, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x, y = flowers
    x = np.where(np.abs(x) < 0.7, 0, x)
    settings = {"standardize": standardize, "early_stopping": True, "max_iter": 5}
    dense, own = small(**settings).fit(x, y), small(**settings).fit(getattr(sparse, form)(x), y)
    np.testing.assert_allclose(own.weights_, dense.weights_, rtol=1e-9, atol=1e-12)  # two ways to a variance
    monkeypatch.setattr("backprop_xp.sklearn.table.DENSE", 100)
    for method in ("predict_proba", "transform"):
        found, wanted = (getattr(own, method)(a) for a in (getattr(sparse, form)(x), x))
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-15)  # products of other shapes


# ---------------------------------------------------------------- ONNX
@pytest.mark.parametrize("kind", ["classes", "pair", "numbers", "categories"])
def test_an_exported_estimator_predicts_the_same(kind, flowers, line, tmp_path):
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    x, y = flowers
    if kind == "categories":
        x, y = frame_in("pandas")
        net = BackpropRegressor((4,), standardize=True, max_iter=3).fit(x, y)
        codes = {"category1": [["Lima", "Oslo", "Rome"].index(c) for c in x["city"]]}
        codes["category2"] = [0 if k == "b" else 1 for k in x["kind"]]
        feed = {"numbers": x[["size", "noise"]].to_numpy()}
        feed |= {name: np.asarray(each, "int64")[:, None] for name, each in codes.items()}
        wanted = net.predict(x)[:, None]
    elif kind == "numbers":
        net = BackpropRegressor(loss="poisson", max_iter=3).fit(line[0], np.abs(line[1]))
        feed, wanted = {"input": line[0]}, net.predict(line[0])[:, None]
    else:
        net = small(standardize=True).fit(x, y if kind == "classes" else y == "setosa")
        feed, wanted = {"input": x}, net.predict_proba(x)[:, 1 if kind == "pair" else 0 :]
    net.save(tmp_path / "net")
    assert main(["export", str(tmp_path / "net"), str(tmp_path / "net.onnx")]) == 0
    session = ort.InferenceSession(tmp_path / "net.onnx")
    np.testing.assert_allclose(session.run(["prediction"], feed)[0], wanted, rtol=1e-12, atol=1e-13)
    about = session.get_modelmeta().custom_metadata_map
    if kind == "classes":
        assert about["classes"] == '["setosa", "versicolor", "virginica"]'
    if kind == "categories":
        assert about["categories"] == '{"city": ["Lima", "Oslo", "Rome"], "kind": ["b"]}'


def test_an_estimator_shows_itself():
    assert repr(BackpropClassifier((4,), penalty=0.1)) == "BackpropClassifier(hidden=(4,), penalty=0.1)"
    assert "BackpropClassifier" in BackpropClassifier()._repr_html_()
