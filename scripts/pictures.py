"""Redraw the pictures of README and docs: the page of an explanation, and the shares of the weights.

    .venv/bin/python scripts/pictures.py

Needs matplotlib, Playwright and an installed Chromium.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from backprop_xp import articles
from backprop_xp.articles.site import explanation

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Write docs/why.png and docs/shares.png."""
    (article,) = articles.load(2)
    why = explanation(article)
    why.picture("shares", DOCS / "shares.png", step=2)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        why.page(Path(folder) / "why.html")
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860}, device_scale_factor=1.5)
        page.emulate_media(reduced_motion="reduce")
        page.goto(f"file://{folder}/why.html#gd-net-two-epochs/3/update/v2.w.1.0")
        page.screenshot(path=DOCS / "why.png")
        browser.close()


if __name__ == "__main__":
    main()
