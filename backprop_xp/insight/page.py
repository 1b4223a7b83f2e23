"""An explanation as a page: one HTML file that needs no network and opens from a folder.

The page holds the document and draws it; it computes nothing but what its reader types in as a net of
their own, in fractions.
"""

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

PARTS = ("fractions", "numbers", "own", "views")
TITLE = "Why did each weight move?"

Json = Mapping[str, Any]


def as_page(data: Json, title: str = TITLE) -> str:
    """The page.

    Args:
        data: the document of an explanation.
        title: of the page.
    """
    folder = files(__package__).joinpath("assets")

    def read(name: str) -> str:
        return folder.joinpath(name).read_text(encoding="utf-8")

    script = "\n".join(read(f"{part}.js") for part in PARTS)
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")  # so that no text can end the element
    filled = {
        "language": escape(str(data["language"])), "title": escape(title), "style": read("page.css"),
        "data": text, "script": f'"use strict";\n{{\n{script}\n}}',
    }  # fmt: skip
    page = read("page.html")
    first, *rest = page.split("{{")
    return first + "".join(filled[name] + after for name, after in (part.split("}}", 1) for part in rest))
