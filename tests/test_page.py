"""The page of an explanation in a real browser: by keyboard alone, without errors, its numbers those meant.

Needs Playwright and a Chromium of the system (`apt install chromium`); nothing is downloaded. `scripts/full`
sets BACKPROP_XP_FULL, and then every moment of every article is visited.
"""

import json
import os
import re
import shutil
from fractions import Fraction as F
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import backprop_xp as bp
from backprop_xp import articles
from backprop_xp.articles.site import explanation, site

FULL = bool(os.environ.get("BACKPROP_XP_FULL"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHASES = ("forward", "loss", "backward", "update", "effect")
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright here")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as p:
        own = ["--no-sandbox", "--disable-ipc-flooding-protection"]  # else 200 addresses in 10 s
        found = p.chromium.launch(executable_path=CHROMIUM, args=own)
        yield found
        found.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("site")
    site(where)
    return where


@pytest.fixture
def opened(browser):
    """`opened(path, address, size, dark)`: a page, and the errors it has told."""
    contexts = []

    def open_page(path, address="", size="desktop", dark=False):
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, reduced_motion="reduce",
            color_scheme="dark" if dark else "light", offline=True,
        )  # fmt: skip
        contexts.append(context)
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
        page.goto(f"file://{path}{address}")
        return page, errors

    yield open_page
    for context in contexts:
        context.close()


def hash_of(page):
    """What stands after the # in the page's address; `page.url` may lag behind."""
    return page.evaluate("location.hash.slice(1)")


def moments(page):
    """Every moment of the run that is shown, visited with the arrow key: its address and its text."""
    found = [(hash_of(page), page.inner_text("main"))]
    while not page.is_disabled("#next"):
        page.keyboard.press("ArrowRight")
        found.append((hash_of(page), page.inner_text("main")))
    return found


NUMBERS = range(1, 6) if FULL else [2]


@pytest.mark.parametrize("number", NUMBERS)
def test_every_moment_is_reached_by_keyboard_and_no_error_is_told(number, folder, opened):
    page, errors = opened(folder / f"article-{number}.html")
    (article,) = articles.load(number)
    runs = explanation(article).data["runs"]
    for k, run in enumerate(runs if FULL else runs[:1]):
        if k:
            page.select_option("#run", str(k))
            page.locator("body").click(position={"x": 2, "y": 2})
        seen = moments(page)
        steps = range(1, len(run["steps"]) + 1)
        visited = [f"{run['id']}/{step}/{phase}" for step in steps for phase in PHASES]
        assert ["/".join(address.split("/")[:3]) for address, _ in seen] == visited
        assert all("undefined" not in text and "NaN" not in text for _, text in seen)
    assert errors == []


def test_an_address_names_a_moment_and_the_page_has_the_numbers_of_the_document(folder, opened):
    (article,) = articles.load(2)
    run = explanation(article).data["runs"][0]
    step = run["steps"][2]
    page, errors = opened(folder / "article-2.html", f"#{run['id']}/3/update/v1.w.1.0")
    page.click("#fractions")
    cells = [row.inner_text().split("\t") for row in page.locator("#below tbody tr").all()]
    for cell, why in zip(cells, step["why"], strict=True):
        shown = [each.replace("−", "-").lstrip("▲▼=+ ") for each in cell[1:]]
        assert F(shown[0]) == F(why["before"])
        assert F(shown[1]) == F(why["input"])
        assert F(shown[2]) == F(why["delta"])
        assert F(shown[3]) == F(why["change"])
        assert F(shown[4]) == F(why["after"])
    assert "Why did strawberries → health ▲ rise?" in page.inner_text("#why")
    assert "nothing would be learnt" in page.inner_text("#notes")
    assert errors == []


def test_a_guess_is_asked_for_before_it_is_answered(folder, opened):
    page, errors = opened(folder / "article-2.html", "#gd-net-two-epochs/3/update/v1.w.1.0")
    page.keyboard.press("g")
    assert "What will strawberries → health do?" in page.inner_text("#why")
    assert "+0.0002" not in page.inner_text("main")
    page.click('[data-guess="-1"]')
    assert "Not so." in page.inner_text("#why")
    assert "0 of 1 guessed right" in page.inner_text("#why")
    assert errors == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_violation(size, dark, folder, opened):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core here").Axe()
    places = [("index.html", ""), *(("article-2.html", f"#gd-net-two-epochs/3/{phase}") for phase in PHASES)]
    if FULL:
        places += [(f"article-{k}.html", "") for k in range(1, 6)]
    page, _ = opened(folder / "index.html", "", size, dark)
    for name, address in places if FULL else places[:1] + places[4:]:
        page.goto(f"file://{folder / name}{address}")
        found = axe.run(page).response["violations"]
        assert found == [], [(each["id"], [node["html"][:120] for node in each["nodes"]]) for each in found]


def drawn_net(draw):
    """A net, its samples and its rate, as a reader types them; and the library's learner of it."""
    widths = draw.integers(1, 4, draw.integers(2, 4))
    kinds = [str(draw.choice(["identity", "relu", "leaky"])) for _ in widths[1:]]
    bias = bool(draw.integers(2))

    def number():
        return str(F(int(draw.integers(-9, 10)), int(draw.integers(1, 7))))

    blocks, lines = {}, []
    for k, (m, n) in enumerate(pairwise(widths), 1):
        w = [[number() for _ in range(n)] for _ in range(m)]
        b = [number() for _ in range(n)] if bias else []
        blocks |= {f"dense{k}.w": w} | ({f"dense{k}.b": b} if bias else {})
        lines.append(" ".join([*(v for row in w for v in row), *b]))
    samples = [
        ([number() for _ in range(widths[0])], [number() for _ in range(widths[-1])]) for _ in range(2)
    ]
    f = {"identity": bp.activations.identity, "relu": bp.relu, "leaky": bp.activations.LeakyReLU(F(1, 100))}
    layers = [bp.Dense(int(n), f[kind], bias) for n, kind in zip(widths[1:], kinds, strict=True)]
    learner = bp.Learner(bp.chain(int(widths[0]), *layers), update=bp.GradientDescent("1/7"))
    typed = {
        "own-data": "\n".join(f"{' '.join(x)} -> {' '.join(t)}" for x, t in samples),
        "own-layers": "\n".join(f"{n} {kind}" for n, kind in zip(widths[1:], kinds, strict=True)),
        "own-weights": "\n".join(lines),
        "own-rate": "1/7",
    }
    return learner, blocks, samples, typed


SCREENS = Path(__file__).parent / "screens"


@pytest.mark.skipif(not FULL, reason="screenshots are compared by scripts/full")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_looks_as_it_did(size, dark, folder, opened):
    """Compared coarsely, in blocks of 16 × 16 pixels, as fonts differ between machines.

    Where the page was meant to change, delete the kept ones, run the test, and look at what it made.
    """
    image = pytest.importorskip("matplotlib.image", reason="matplotlib is not installed")
    (article,) = articles.load(2)
    run = explanation(article).data["runs"][0]["id"]
    for phase in ("forward", "update"):
        page, _ = opened(folder / "article-2.html", f"#{run}/3/{phase}", size, dark)
        pixels = image.imread(BytesIO(page.screenshot()))[..., :3]
        kept = SCREENS / f"{size}-{'dark' if dark else 'light'}-{phase}.png"
        if not kept.exists():
            image.imsave(kept, coarse(pixels))
            pytest.fail(f"{kept} was made: look at it")
        assert abs(image.imread(kept)[..., :3] - coarse(pixels)).mean() < 0.04, kept


def coarse(pixels):
    """A screenshot by the mean colours of its blocks."""
    height, width = (n // 16 for n in pixels.shape[:2])
    return pixels[: height * 16, : width * 16].reshape(height, 16, width, 16, 3).mean((1, 3))


def test_a_net_that_the_reader_types_learns_exactly_what_the_library_learns(folder, opened):
    page, errors = opened(folder / "article-2.html")
    draw = np.random.default_rng(5)
    for _ in range(200 if FULL else 12):
        learner, blocks, samples, typed = drawn_net(draw)
        w, s = learner.init(backend="exact", weights=blocks)
        x, t = (bp.asarray([list(each[k]) for each in samples], like=w) for k in (0, 1))
        want = bp.explain(learner, w, s, x, t, most=999).data["runs"][0]
        page.click("#own")
        for name, text in typed.items():
            page.fill(f"#{name}", text)
        page.click("#own-go")
        assert not page.is_visible("#dialog"), page.inner_text("#own-error")
        got = json.loads(page.evaluate("JSON.stringify(window.backpropXp.run())"))
        for mine, its in zip(want["steps"], got["steps"], strict=True):
            for key in ("rows", "loss", "loss_after", "weights"):
                assert its[key] == mine[key], key
            assert its["samples"][0]["forward"] == mine["samples"][0]["forward"]
            for a, b in zip(mine["why"], its["why"], strict=True):
                assert all(b[key] == a[key] for key in b if key not in ("unit", "from", "says")), (a, b)
                assert b["says"] == [key for key in a["says"] if not key.startswith("share")]
    assert errors == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("own-data", "1 2 3", "needs “->”"),
        ("own-data", "1 2 3 -> 1\n1 2 -> 1", "Sample 2 needs 3 inputs"),
        ("own-layers", "0 relu", "units from 1 to 32"),
        ("own-layers", "1 softmax", "identity, relu or leaky"),
        ("own-weights", "1 2", "3 × 1 = 3 weights"),
        ("own-rate", "fast", "“fast” is not a number"),
        ("own-rate", "-1", "larger than 0"),
    ],
)
def test_what_a_reader_mistypes_ends_in_a_sentence(name, text, said, folder, opened):
    page, errors = opened(folder / "article-2.html")
    page.click("#own")
    page.fill(f"#{name}", text)
    page.click("#own-go")
    assert said in page.inner_text("#own-error")
    assert errors == []


def test_numbers_are_written_as_the_text_writes_them(folder, opened):
    from backprop_xp.insight.words import number, pair

    page, _ = opened(folder / "article-2.html")
    draw = np.random.default_rng(1)
    texts = [
        "0",
        "1",
        "-1/3",
        "99996/100000",
        "1e+300",
        "-2.5e-07",
        "123456789",
        "nan",
        "inf",
        "-inf",
        "1/8000",
    ]
    texts += [str(F(int(draw.integers(-(10**6), 10**6)), int(draw.integers(1, 10**6)))) for _ in range(200)]
    texts += [repr(float(v)) for v in draw.normal(size=200) * 10.0 ** draw.integers(-12, 12, 200)]
    got = page.evaluate("texts => texts.map(text => window.backpropXp.number(text))", texts)
    assert got == [number(text) for text in texts]
    pairs = list(pairwise(texts))
    got = page.evaluate("pairs => pairs.map(([a, b]) => window.backpropXp.pair(a, b))", pairs)
    assert [tuple(each) for each in got] == [pair(a, b) for a, b in pairs]


def test_the_page_needs_no_network(folder):
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert not re.search(r"(src|href)=[\"']?https?:", text)
