"""Why each weight moved: what is claimed is measured, what is said agrees with what happened."""

import json
import os
import re
from fractions import Fraction as F
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import backends, cli
from backprop_xp.insight import flow as flow_of
from backprop_xp.insight.document import SWEEP
from backprop_xp.insight.explain import sentences
from backprop_xp.insight.pictures import PICTURES
from backprop_xp.insight.words import number, pair
from backprop_xp.insight.words import sentences as said

FULL = bool(os.environ.get("BACKPROP_XP_FULL"))  # as scripts/full sets it
ORACLES = {
    each["id"]: each
    for each in json.loads((Path(__file__).parent / "oracles" / "articles.json").read_text("utf-8"))[
        "examples"
    ]
}
ACTIVATIONS = {"exact": ("relu", "leaky_relu", "identity"), "numpy": tuple(bp.activations.ALL)}


def linear(weights, f=None, rate="1/10", loss=bp.half_squared_error, **settings):
    """A layer without biases, and an activation as a layer of its own, as in the articles."""
    layers = [bp.layers.Linear(len(weights[0]), bias=False), *([bp.layers.Activate(f)] if f else [])]
    learner = bp.Learner(bp.chain(len(weights), *layers), loss, bp.GradientDescent(rate), **settings)
    w, s = learner.init(backend="exact", weights={"dense1.w": weights})
    return learner, w, s


def rows(like, *data):
    return [bp.asarray(each, like=like) for each in data]


def first_step(explanation):
    return explanation.data["runs"][0]["steps"][0]


# ---------------------------------------------------------------- the articles
BROCCOLI = {
    "inputs": ["broccoli", "strawberries", "workout"],
    "outputs": ["health"],
    "samples": ["a", "b", "c"],
}


def broccoli():
    sample = ORACLES["gd-sample-3"]["inputs"]
    learner, w, s = linear([["1/200"], ["-3/11600"], ["1/5800"]], bp.relu, sample["alpha"])
    x, t = rows(w, [["100", "2000", "100"], ["200", "0", "0"], sample["x"]], [["0"], ["1"], ["1"]])
    return bp.explain(learner, w, s, x, t, labels=BROCCOLI)


def test_the_third_person_undoes_the_first_and_strawberries_did_93_percent_of_it():
    step = broccoli().data["runs"][0]["steps"][2]
    assert step["weights"]["dense1.w"]["after"] == [
        [v] for v in ORACLES["gd-sample-3"]["expected"]["w2_after"]
    ]
    first, _, third = step["effect"]
    assert (F(first["loss"]), F(first["loss_after"]), first["first_order"]) == (0, F("0.09245"), "0")
    assert F(first["shares"]["dense1.w"][1][0]) / F(first["loss_after"]) == F(40, 43)
    assert [each[0] for each in third["shares"]["dense1.w"]] == ["0", "-7/50", "-63/200"]
    assert third["first_order"] == "-13/10"


def test_float64_learns_nothing_where_fractions_do():
    step = broccoli().data["runs"][0]["steps"][2]
    own = step["verdict"]["float64"]
    assert (own["learns"], own["learns_exactly"]) == (False, True)
    place = {"layer": "activate1", "row": 0, "unit": 0}
    assert own["branches"][0] == place | {"exact": "0", "float": "-1.1102230246251565e-16", "ulps": "1.0"}
    assert step["verdict"]["float32"]["branches"] == []


@pytest.mark.parametrize("slope", ["relu", "leaky"])
def test_the_sign_of_the_flow_is_that_of_the_article(slope):
    example = ORACLES[f"wb-sign-flow-{slope}"]
    f = bp.relu if slope == "relu" else bp.activations.LeakyReLU(F(example["inputs"]["slope"]))
    w2 = [F(each) for each in example["inputs"]["w2"]]
    for row, expected in zip(example["inputs"]["rows"], example["expected"]["rows"], strict=True):
        # one input along w2 gives the net input of the table
        scale = F(row["o2"]) / sum(v * v for v in w2)
        learner, w, s = linear([[v] for v in w2], f)
        x, t = rows(w, [[v * scale for v in w2]], [[row["y"]]])
        step = first_step(bp.explain(learner, w, s, x, t))
        flows = step["samples"][0]
        assert flows["backward"]["activate1"]["e"] == [expected["delta4"]]
        assert flows["backward"]["dense1"]["delta"] == [expected["delta3"]]
        assert [each[0] for each in flows["backward"]["dense1"]["terms"]] == expected["delta2"]
        word = {"lower than expected": "lower", "higher than expected": "higher", "as expected": "equal"}
        assert all(why["says"][0] == word[expected["model_result"]] for why in step["why"])
        assert any("blocked" in why["says"] for why in step["why"]) == expected["blocked"]


def test_the_balance_table_is_that_of_the_article():
    example = ORACLES["wb-balance-table"]
    moves = {"keep": "move.stay", "increase": "move.up", "decrease": "move.down"}
    for row, expected in zip(example["inputs"]["rows"], example["expected"]["rows"], strict=True):
        learner, w, s = linear([[example["inputs"]["w"]]], rate=example["inputs"]["alpha"])
        x = F(row["o1"])
        x, t = rows(w, [[x]], [[x * F(example["inputs"]["w"]) - F(row["delta3"])]])
        (why,) = first_step(bp.explain(learner, w, s, x, t))["why"]
        assert (why["after"], why["grad"]) == (expected["w_after"], expected["dw"])
        assert moves[expected["move"]] in why["says"]


@pytest.mark.parametrize("name", ["effective-rate-equal-layers", "effective-rate-unequal-layers"])
def test_the_effective_rate_is_that_of_the_article(name):
    for row, expected in zip(ORACLES[name]["inputs"]["rows"], ORACLES[name]["expected"]["rows"], strict=True):
        weights = row.get("weights") or ["1"] * int(row["n_layers"])
        layers = [bp.layers.Linear(1, bias=False)] * len(weights)
        learner = bp.Learner(bp.chain(1, *layers), bp.losses.squared_error, bp.GradientDescent(row["rate"]))
        w, s = learner.init(
            backend="exact", weights={f"dense{k + 1}.w": [[v]] for k, v in enumerate(weights)}
        )
        found = bp.insight.descents(learner, w, s, *rows(w, [[1]], [[0]]))
        loss = F(expected["output_all_layers"]) ** 2
        assert found.together == pytest.approx(float(loss), rel=1e-12)
        assert found.estimate == len(weights)
        last = list(found.alone.values())[-1]
        assert last == pytest.approx(
            float(F(expected.get("output_one_layer") or expected["output_last_layer_only"]) ** 2)
        )


# ---------------------------------------------------------------- random nets: claims and their checks
def random_net(draw, kind, depth):
    names, widths = ACTIVATIONS[kind], draw.integers(1, 4, depth + 1)
    layers = []
    for k, units in enumerate(widths[1:], 1):
        f = bp.activations.ALL[names[draw.integers(len(names))]]
        softmax = type(f).__name__ in ("Softmax", "LogSoftmax")
        layers.append(bp.named(f"l{k}", bp.Dense(int(units), bp.activations.identity if softmax else f)))
        if k > 1 and widths[k] == widths[k - 1] and draw.random() < 0.3:
            layers.append(bp.add(f"l{k - 1}"))
    return bp.chain(int(widths[0]), *layers), widths


def random_step(seed, kind):
    draw = np.random.default_rng(seed)
    net, widths = random_net(draw, kind, int(draw.integers(1, 5)))
    rate = F(int(draw.integers(1, 8)), 20)
    learner = bp.Learner(
        net, bp.half_squared_error, bp.GradientDescent(rate if kind == "exact" else float(rate))
    )
    dtype = "rational" if kind == "exact" else "float64"
    weights = {b: draw.integers(-8, 9, shape) / 4 for b, shape in net.shapes.items()}
    w, s = learner.init(backend=kind, dtype=dtype, weights={b: a.tolist() for b, a in weights.items()})
    x, t = draw.integers(-6, 7, (1, widths[0])) / 2, draw.integers(-6, 7, (1, widths[-1])) / 2
    return learner, w, s, rows(w, x.tolist(), t.tolist())


@pytest.mark.parametrize("kind", ["exact", "numpy"])
@pytest.mark.parametrize("block", range(34 if FULL else 4))  # 1,020 nets in all
def test_every_sentence_agrees_with_what_happened(kind, block):
    claims = 0
    for seed in range(block * 15, block * 15 + 15):
        learner, w, s, batch = random_step(seed, kind)
        step = first_step(bp.explain(learner, w, s, *batch))
        after, *_ = learner.step(*learner.snapshot(w, s), *batch)
        real = backends.host(after - w)
        for why in step["why"]:
            start = next(b.start for b in learner.net.layout.blocks if b.name == why["block"])
            shape = learner.net.shapes[why["block"]]
            change = real[start + int(np.ravel_multi_index(why["at"], shape))]
            move = "move.up" if change > 0 else "move.down" if change < 0 else "move.stay"
            assert [each for each in why["says"] if each.startswith("move")] == [move]
            if "alone" in why["says"]:
                assert F(why["alone_loss"]) <= F(step["loss"])
            if "alone.worse" in why["says"]:
                assert F(why["alone_loss"]) > F(step["loss"])
            if why.get("own_net") is not None and F(why["own_net"]):
                assert "proof.own" in why["says"], why  # one sample, plain descent: always as meant
                assert (F(why["own_net"]) > 0) == (F(why["delta"]) < 0)
                claims += 1
    assert claims > 30


@pytest.mark.parametrize("kind", ["exact", "numpy"])
def test_the_shares_of_the_weights_add_up_to_the_change_of_the_loss(kind):
    flipped = 0
    for seed in range(1000 if FULL else 80):
        learner, w, s, batch = random_step(1000 + seed, kind)
        after, *_ = learner.step(*learner.snapshot(w, s), *batch)
        found = bp.insight.shares(learner, w, after, s, *batch)
        if kind == "exact":
            assert found.residual.tolist() == 0
            flipped += float(found.loss_after) > float(found.loss)
        else:
            size = max(float(found.loss), sum(float(abs(a).sum()) for a in found.blocks.values()))
            assert abs(float(found.residual)) <= 1e-12 * max(size, float(found.loss_after)), seed
    assert kind == "numpy" or flipped


@pytest.mark.parametrize(
    "loss", ["softmax_cross_entropy", "sigmoid_cross_entropy", "mean_absolute_error", "huber"]
)
def test_shares_add_up_for_other_losses_and_weighted_rows(loss):
    if loss not in bp.losses.ALL:
        pytest.skip(f"there is no {loss}")
    learner = bp.Learner(
        bp.chain(3, bp.Dense(5, bp.tanh), bp.Dense(3)), bp.losses.ALL[loss], bp.GradientDescent(0.5)
    )
    w, s = learner.init(4, dtype="float64")
    draw = np.random.default_rng(0)
    x, t, v = draw.normal(size=(6, 3)), np.eye(3)[draw.integers(0, 3, 6)], draw.random(6)
    after, *_ = learner.step(*learner.snapshot(w, s), x, t, v)
    found = bp.insight.shares(learner, w, after, s, x, t, v)
    total = sum(float(a.sum()) for a in found.blocks.values())
    assert total == pytest.approx(float(found.loss_after - found.loss), abs=1e-13)


# ---------------------------------------------------------------- situations
def says(weights, x, t, f=None, **settings):
    learner, w, s = linear(weights, f, **settings)
    return [why["says"] for why in first_step(bp.explain(learner, w, s, *rows(w, [x], [t])))["why"]]


@pytest.mark.parametrize(
    ("x", "t", "f", "expected"),
    [
        ([1, 2], [5], None, ["lower", "want.up", "input.+", "move.up"]),
        ([1, -2], [5], None, ["lower", "want.up", "input.-", "move.down"]),
        ([1, 2], [-5], None, ["higher", "want.down", "input.+", "move.down"]),
        ([1, -2], [-5], None, ["higher", "want.down", "input.-", "move.up"]),
        ([1, 0], [5], None, ["lower", "want.up", "input.0", "move.stay"]),
        ([1, 2], [3], None, ["equal", "move.stay"]),
        ([-1, -2], [5], bp.relu, ["lower", "blocked", "move.stay"]),
        ([-1, -2], [5], bp.activations.leaky_relu, ["lower", "leaky", "want.up", "input.-", "move.down"]),
    ],
)  # fmt: skip
def test_a_situation_has_its_sentences(x, t, f, expected):
    assert says([[1], [1]], x, t, f)[1][: len(expected)] == expected


def test_errors_that_cancel_are_named():
    learner = bp.Learner(
        bp.chain(1, bp.layers.Linear(1, bias=False), bp.layers.Linear(2, bias=False)),
        update=bp.GradientDescent("1/10"),
    )
    w, s = learner.init(backend="exact", weights={"dense1.w": [[1]], "dense2.w": [[1, -1]]})
    step = first_step(bp.explain(learner, w, s, *rows(w, [[1]], [[2, 0]])))
    assert step["why"][0]["says"] == ["cancelled", "move.stay"]


def test_where_the_error_is_0_the_sample_asks_for_no_change():
    learner = bp.Learner(bp.chain(1, bp.layers.Linear(2, bias=False)), update=bp.GradientDescent("1/10"))
    w, s = learner.init(backend="exact", weights={"dense1.w": [[1, 2]]})
    step = first_step(bp.explain(learner, w, s, *rows(w, [[1]], [[1, 0]])))
    assert step["why"][0]["says"] == ["settled", "move.stay"]


def test_the_outcome_is_what_predict_gives():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)), bp.losses.sigmoid_cross_entropy)
    w, s = learner.init(1, dtype="float64")
    x, t = np.array([[1.0, 2.0]]), np.array([[1.0]])
    step = first_step(bp.explain(learner, w, s, x, t))
    assert step["outcome"] == {"o": repr(learner.predict(w, s, x).item()), "t": "1.0"}
    both = [np.vstack([a, a]) for a in (x, t)]
    assert first_step(bp.explain(learner, w, s, *both, batch_size=2))["outcome"] is None


def test_the_effect_on_a_row_is_that_on_what_is_predicted():
    learner = bp.Learner(bp.chain(2, bp.Dense(6, bp.tanh), bp.layers.Dropout(0.5), bp.Dense(1)))
    w, s = learner.init(1, dtype="float64")
    x, t = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[1.0], [2.0]])
    after, s_after, _ = learner.step(*learner.snapshot(w, s), x, t)
    effect = first_step(bp.explain(learner, w, s, x, t, batch_size=2))["effect"]
    for row, each in enumerate(effect):
        assert each["output"] == [repr(learner.predict(w, s, x[[row]]).item())]
        assert each["output_after"] == [repr(learner.predict(after, s_after, x[[row]]).item())]


def test_a_frozen_weight_says_so():
    both = bp.Learner(bp.chain(2, bp.Dense(1)).freeze("dense1.w"), update=bp.GradientDescent("1/10"))
    w, s = both.init(backend="exact", weights={"dense1.w": [[1], [1]], "dense1.b": [0]})
    step = first_step(bp.explain(both, w, s, *rows(w, [[1, 2]], [[0]])))
    assert step["why"][0]["says"] == ["higher", "frozen", "move.stay"]
    assert step["why"][2]["says"][:3] == ["higher", "want.down", "input.bias"]


def test_a_weight_pushed_by_earlier_samples_says_so():
    learner = bp.Learner(
        bp.chain(1, bp.layers.Linear(1, bias=False)), update=bp.updates.Momentum("1/10", "9/10")
    )
    w, s = learner.init(backend="exact", weights={"dense1.w": [[0]]})
    x, t = rows(w, [[1], [1]], [[5], ["1/2"]])
    steps = bp.explain(learner, w, s, x, t).data["runs"][0]["steps"]
    assert "earlier" not in steps[0]["why"][0]["says"]
    assert steps[1]["why"][0]["says"][:2] == ["lower", "want.up"] or "earlier" in steps[1]["why"][0]["says"]
    x, t = rows(w, [[1], [1]], [[5], [0]])
    assert "earlier" in bp.explain(learner, w, s, x, t).data["runs"][0]["steps"][1]["why"][0]["says"]


def test_in_a_batch_the_samples_vote():
    learner, w, s = linear([[1], [1]])
    x, t = rows(w, [[1, 0], [2, 1], [-1, 1]], [[5], [9], [-3]])
    step = first_step(bp.explain(learner, w, s, x, t, batch_size=3))
    assert step["rows"] == [0, 1, 2]
    assert [why["votes"] for why in step["why"]] == [
        {"up": 3, "down": 0, "stay": 0}, {"up": 1, "down": 1, "stay": 1},
    ]  # fmt: skip
    assert step["why"][0]["says"][:2] == ["votes", "move.up"]


# ---------------------------------------------------------------- the document
def keys_of(explanation):
    return {
        key
        for run in explanation.data["runs"]
        for step in run["steps"]
        for why in step["why"]
        for key in why["says"]
    }


def test_the_document_fits_its_schema():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads(files("backprop_xp.insight").joinpath("schema.json").read_text("utf-8"))
    check = jsonschema.Draft202012Validator(schema)
    check.check_schema(schema)
    check.validate(broccoli().data)
    for seed in range(6):
        for kind in ("exact", "numpy"):
            learner, w, s, batch = random_step(seed, kind)
            check.validate(bp.explain(learner, w, s, *batch).data)
    learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.tanh), bp.Dense(3)), bp.softmax_cross_entropy, bp.Adam())
    w, s = learner.init()
    x, t = np.ones((5, 2), "float32"), np.asarray([0, 1, 2, 0, 1], "int32")
    check.validate(bp.explain(learner, w, s, x, t, batch_size=2).data)
    broken = broccoli().data
    broken["runs"][0]["steps"][0]["loss"] = 0.5
    assert not check.is_valid(broken)


def test_every_language_has_every_sentence_with_the_same_slots():
    english = sentences("en")
    slots = {key: set(re.findall(r"{(\w+)}", text)) for key, text in english.items()}
    for language in ("de",):
        other = sentences(language)
        assert {key: set(re.findall(r"{(\w+)}", text)) for key, text in other.items()} == slots
    with pytest.raises(bp.BackpropError, match="no sentences in 'xx'; there are 'de', 'en'"):
        sentences("xx")


def test_every_sentence_that_is_said_can_be_filled():
    for language in ("en", "de"):
        for kind in ("exact", "numpy"):
            for seed in range(10):
                learner, w, s, batch = random_step(seed, kind)
                data = bp.explain(learner, w, s, *batch, language=language).data
                (run,) = data["runs"]
                for why in run["steps"][0]["why"]:
                    for text in said(run["steps"][0], why, data["sentences"]):
                        assert "{" not in text


def test_an_explanation_changes_nothing_and_comes_from_any_backend():
    for backend in ("numpy", "torch", "jax"):
        pytest.importorskip(backend, reason=f"{backend} is not installed")
        learner = bp.Learner(bp.chain(2, bp.Dense(2, bp.relu), bp.Dense(1)))
        w, s = learner.init(5, backend=backend)
        before = np.copy(backends.host(w))
        x, t = rows(w, [[1.0, 2.0]], [[0.5]])
        step = first_step(bp.explain(learner, w, s, x, t))
        assert (backends.host(w) == before).all()
        moved = next(why for why in step["why"] if F(why["change"]))
        assert [factor for factor, _ in moved["sweep"]] == list(SWEEP)


def test_of_a_large_net_the_weights_that_moved_most_are_explained():
    learner = bp.Learner(bp.chain(50, bp.Dense(20, bp.relu), bp.Dense(1)), update=bp.GradientDescent(0.01))
    w, s = learner.init(dtype="float64")
    x, t = np.random.default_rng(0).normal(size=(1, 50)), np.ones((1, 1))
    step = first_step(bp.explain(learner, w, s, x, t, most=5))
    after, *_ = learner.step(*learner.snapshot(w, s), x, t)
    assert len(step["why"]) == 5
    least = min(abs(float(F(why["change"]))) for why in step["why"])
    assert int((abs(after - w) > least * (1 + 1e-12)).sum()) <= 4
    only = first_step(bp.explain(learner, w, s, x, t, layers="dense2"))
    assert {why["block"] for why in only["why"]} == {"dense2.w", "dense2.b"}


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"labels": {"inputs": ["a"]}}, "there are 2 inputs, got 1 labels"),
        ({"labels": {"input": ["a"]}}, "labels are for 'inputs'"),
        ({"layers": "nothing"}, "the net has no 'nothing'"),
        ({"language": "xx"}, "no sentences in 'xx'"),
        ({"batch_size": 0}, "positive integer"),
    ],
)
def test_what_cannot_be_explained_ends_in_a_sentence(settings, match):
    learner, w, s = linear([[1], [1]])
    with pytest.raises(bp.BackpropError, match=re.escape(match)):
        bp.explain(learner, w, s, *rows(w, [[1, 2]], [[0]]), **settings)


# ---------------------------------------------------------------- numbers and views
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0"), ("3/4", "0.75"), ("1/3", "≈ 0.3333"), ("-1/3", "≈ −0.3333"), ("2000", "2000"),
        ("1/8000", "0.000125"), ("99999/100000", "≈ 1"), ("1e+300", "10³⁰⁰"), ("-2.5e-07", "−2.5×10⁻⁷"),
        ("123456789", "≈ 1.235×10⁸"), ("nan", "NaN"), ("-inf", "−∞"), ("0.1", "0.1"),
    ],
)  # fmt: skip
def test_a_number_has_four_digits_and_says_where_it_is_rounded(text, shown):
    assert number(text) == shown


def test_two_numbers_have_as_many_digits_as_tell_them_apart():
    assert pair("30901/100000", "30902/100000") == ("0.30901", "0.30902")
    assert pair("1/2", "1/2") == ("0.5", "0.5")


def test_the_text_has_the_table_the_reasons_and_what_became_of_every_sample():
    text = broccoli().text()
    for words in (
        "strawberries → health   2000  −1  ▲  +0.0002",
        "The model gave 0, lower than the expected 1.",
        "Checked: this move alone changes the net input by +0.4, the way it was meant.",
        "this weight's share of that is −0.14 (30.8 %).",
        "a       0 → 0.43  0 → 0.09245  ▲  worse",
        "In float64 nothing would be learnt in this step.",
    ):
        assert words in text


@pytest.mark.parametrize("kind", PICTURES)
def test_every_picture_is_drawn_for_a_small_net_and_a_large_one(kind, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    broccoli().picture(kind, tmp_path / "small.png")
    learner = bp.Learner(bp.chain(60, bp.Dense(40, bp.relu), bp.Dense(10)), bp.softmax_cross_entropy)
    w, s = learner.init()
    x, t = np.random.default_rng(0).random((8, 60), dtype="float32"), np.arange(8, dtype="int32")
    bp.explain(learner, w, s, x, t, batch_size=4).picture(kind, tmp_path / "large.png")
    for name in ("small", "large"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def test_a_picture_that_is_not_there_ends_in_a_sentence():
    with pytest.raises(bp.BackpropError, match="there is no picture 'film'; there are 'diagram'"):
        broccoli().picture("film")


def test_a_notebook_shows_a_drawing_a_table_and_sentences_without_a_script():
    html = broccoli()._repr_html_()
    assert html.count("<svg") == html.count("<table>") == 3
    assert "<script" not in html
    assert "Why strawberries → health?" in html


def test_a_page_holds_the_document_and_no_text_can_end_it():
    learner, w, s = linear([[1], [1]])
    x, t = rows(w, [[1, 2]], [[0]])
    odd = bp.explain(learner, w, s, x, t, labels={"inputs": ["</script><script>alert(1)", "b & c"]})
    page = odd.page()
    held = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1]
    assert json.loads(held) == odd.data
    assert "<script>alert" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


# ---------------------------------------------------------------- large nets
def measured(seed=0, rows=12):
    learner = bp.Learner(bp.chain(6, bp.Dense(5, bp.relu), bp.Dense(4, bp.relu), bp.Dense(2)))
    w, s = learner.init(seed, dtype="float64")
    draw = np.random.default_rng(seed)
    x = np.maximum(draw.normal(size=(rows, 6)), 0)
    return learner, w, s, x, draw.normal(size=(rows, 2))


def test_counts_by_row_sums_are_those_counted_one_by_one():
    learner, *rest = measured()
    shown = bp.trace(learner, *rest)
    for own in flow_of(learner, *rest).layers:
        k = [node.name for node in learner.net.nodes].index(own.name)
        a, delta, e = shown.layers[k - 1].o, shown.layers[k].delta, shown.layers[k].e
        pull = -a[:, :, None] * delta[:, None, :]
        shut = np.broadcast_to(((delta == 0) & (e != 0))[:, None, :], pull.shape)
        idle = np.broadcast_to(((delta == 0) & (e == 0))[:, None, :], pull.shape)
        zero = np.broadcast_to((delta != 0)[:, None, :], pull.shape) & (a == 0)[:, :, None]
        counted = [(pull > 0).sum(), (pull < 0).sum(), zero.sum(), shut.sum(), idle.sum()]
        assert [own.up, own.down, own.zero_input, own.blocked, own.nothing] == counted
        assert own.size == pytest.approx(abs(delta).mean())


def test_votes_and_agreement_are_those_of_the_rows():
    learner, *rest = measured(3)
    shown = bp.trace(learner, *rest)
    for block, (up, down) in bp.insight.votes(learner, *rest).items():
        k = [node.name for node in learner.net.nodes].index(block.removesuffix(".w"))
        pull = -shown.layers[k - 1].o[:, :, None] * shown.layers[k].delta[:, None, :]
        assert (up == (pull > 0).sum(0)).all()
        assert (down == (pull < 0).sum(0)).all()
        most = abs(pull).sum(0)
        ratio = np.divide(abs(pull.sum(0)), most, out=np.zeros_like(most), where=most > 0)
        np.testing.assert_allclose(bp.insight.agreement(learner, *rest)[block], ratio, atol=1e-12)


def test_what_keeps_a_net_from_learning_is_named_with_what_helps():
    learner = bp.Learner(bp.chain(2, bp.named("hidden", bp.Dense(3, bp.relu)), bp.Dense(1)))
    w, s = learner.init(weights={"hidden.b": [-9, -9, 1]}, partial=True, dtype="float64")
    x, t = np.random.default_rng(0).random((5, 2)), np.ones((5, 1))
    (found,) = bp.insight.health(learner, w, s, x, t)
    assert found.startswith("hidden: 2 of 3 units are closed for every row and cannot learn")
    deep = bp.Learner(bp.chain(2, *[bp.Dense(4, bp.sigmoid) for _ in range(12)], bp.Dense(1)))
    w, s = deep.init(dtype="float64")
    assert any(each.startswith("the flow vanishes") for each in bp.insight.health(deep, w, s, x, t))
    fine = bp.Learner(bp.chain(2, bp.Dense(4, bp.tanh), bp.Dense(1)))
    w, s = fine.init(dtype="float64")
    assert bp.insight.health(fine, w, s, x, t) == []
    held = bp.Learner(bp.chain(2, bp.Dense(1)), update=bp.GradientDescent(0.1, limit=1))
    w, s = held.init(weights={"dense1.w": [[1], [0.5]], "dense1.b": [0]})
    (found,) = bp.insight.health(held, w, s, x.astype("float32"), t.astype("float32"))
    assert found.startswith("dense1.w: 1 of 2 weights are at their limit 1")


def test_weights_that_are_not_finite_are_named():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init(dtype="float64")
    (found,) = bp.insight.health(learner, w * np.nan, s, np.ones((3, 2)), np.ones((3, 1)))
    assert found.startswith("weights or the loss are not finite")


def test_the_gradient_check_needs_digits():
    learner = bp.Learner(bp.chain(2, bp.Dense(1)))
    w, s = learner.init()
    x, t = np.ones((3, 2), "float32"), np.ones((3, 1), "float32")
    with pytest.raises(bp.BackpropError, match="float64 or fractions, got weights of float32"):
        bp.insight.check_gradient(learner, w, s, x, t)


def test_the_gradient_check_is_exact_on_fractions_but_at_kinks():
    for seed in range(40):
        learner, w, s, batch = random_step(seed, "exact")
        for each in bp.insight.check_gradient(learner, w, s, *batch):
            assert each.kink or each.grad == each.difference


def test_the_gradient_check_finds_a_wrong_derivative():
    class Wrong(bp.activations.Tanh):
        def delta(self, e, net, o, *, xp):
            return e * (1 - o)

    learner = bp.Learner(bp.chain(2, bp.Dense(2, Wrong()), bp.Dense(1)))
    w, s = learner.init(dtype="float64")
    x, t = np.ones((3, 2)), np.zeros((3, 1))
    found = bp.insight.check_gradient(learner, w, s, x, t)
    assert {each.block for each in found if each.error > 1e-6} == {"dense1.w", "dense1.b"}


def test_what_was_not_needed_is_counted():
    learner = bp.Learner(bp.chain(784, bp.Dense(512, bp.relu), bp.Dense(10)))
    done, left_out = 2 * (784 * 512 * 2 + 512 * 10 * 3), 2 * 784 * 512
    assert bp.insight.multiplications(learner, rows=2) == (done, left_out)


# ---------------------------------------------------------------- from the command line
def told(capsys, *argv):
    status = cli.main(["explain", *argv])
    out = capsys.readouterr()
    return status, out.out, out.err


NEURON = (
    "--weights",
    "1/200 -3/11600 1/5800",
    "--inputs",
    "0 2000 3000",
    "--targets",
    "1",
    "--rate",
    "1/10000000",
)


def test_the_command_explains_typed_weights(capsys):
    status, out, _ = told(capsys, *NEURON, "--names", "broccoli,strawberries,workout")
    assert status == 0
    assert "strawberries → neuron   2000  −1  ▲  +0.0002" in out
    assert "nothing would be learnt" in out
    status, out, _ = told(capsys, *NEURON, "--json")
    assert json.loads(out)["runs"][0]["steps"][0]["loss_after"] == "9/200"


def test_the_command_writes_a_page_and_a_picture(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page, picture = tmp_path / "why.html", tmp_path / "why.png"
    status, out, err = told(
        capsys, *NEURON, "--page", str(page), "--picture", str(picture), "--kind", "shares"
    )
    assert (status, out) == (0, "")
    assert f"written: {page}" in err
    assert "why.xyz cannot be written" in told(capsys, *NEURON, "--picture", "why.xyz")[2]
    assert page.stat().st_size > 30_000
    assert picture.stat().st_size > 5000


def test_the_command_explains_a_model_file_in_floats(capsys, tmp_path):
    learner = bp.Learner(bp.chain(2, bp.Dense(3, bp.tanh), bp.Dense(1)), update=bp.Adam(0.01))
    w, s = learner.init(3)
    bp.save(tmp_path / "net.safetensors", learner, w, s)
    model = ("--model", str(tmp_path / "net.safetensors"), "--inputs", "0.5 1; -1 2", "--targets", "1; 0")
    status, out, _ = told(capsys, *model, "--json", "--batch-size", "2")
    assert status == 0
    run = json.loads(out)["runs"][0]
    assert run["arithmetic"] == {"backend": "numpy", "dtype": "float32", "exact": False}
    assert run["steps"][0]["rows"] == [0, 1]


def test_the_command_reads_labels_for_losses_on_classes(capsys, tmp_path):
    learner = bp.Learner(bp.chain(2, bp.Dense(3)), bp.losses.softmax_cross_entropy)
    bp.save(tmp_path / "net.safetensors", learner, *learner.init(3))
    model = ("--model", str(tmp_path / "net.safetensors"), "--inputs", "0.5 1; -1 2", "--targets")
    status, out, _ = told(capsys, *model, "2; 0", "--json")
    assert status == 0
    assert [each["t"] for each in json.loads(out)["runs"][0]["samples"]] == [["2"], ["0"]]
    assert "the targets are labels of classes" in told(capsys, *model, "1/2; 0")[2]


def test_the_command_explains_an_article_in_german(capsys):
    status, out, _ = told(capsys, "--article", "1", "--language", "de")
    assert status == 0
    assert "Also wird das Gewicht um 0.025 größer." in out


@pytest.mark.parametrize(
    ("argv", "said_of_it"),
    [
        ((), "give one of --article N, --model FILE and --weights"),
        (("--article", "1", "--weights", "1"), "give one of"),
        (("--article", "9"), "an article must be one of 1 to 5"),
        (("--weights", "1 x", "--inputs", "1 2", "--targets", "1"), "'x' is not a number"),
        (("--weights", "1 2", "--targets", "1"), "give --inputs and --targets"),
        (("--weights", "1 2", "--inputs", "1", "--targets", "1"), "of shape (batch, 2), got shape (1, 1)"),
        (("--model", "/nowhere/net", "--inputs", "1", "--targets", "1"), "/nowhere/net"),
        ((*NEURON, "--page", "/nowhere/why.html"), "/nowhere/why.html cannot be written"),
        ((*NEURON, "--language", "xx"), "no sentences in 'xx'"),
        ((*NEURON, "--names", "a,b"), "there are 3 inputs, got 2 labels"),
        ((*NEURON, "--inputs", "1 2 3; 4 5"), "sample 2 has 2 numbers, the first has 3"),
        ((*NEURON, "--activation", "tanh", "--targets", "1e400"), "1e400 is too large for a float"),
    ],
)
def test_a_command_that_cannot_be_explained_ends_in_one_line(argv, said_of_it, capsys):
    status, out, err = told(capsys, *argv)
    assert (status, out) == (2, "")
    assert said_of_it in err
    assert len(err.strip().splitlines()) <= 3
