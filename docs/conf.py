"""The site of the documentation, built without a network by python -m sphinx -W -b html docs build/docs."""

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import reference  # noqa: E402

import backprop_xp  # noqa: E402

project = "backprop_xp"
author = project_copyright = "The backprop_xp authors"
release = version = backprop_xp.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["gallery/*.py"]
html_theme = "furo"
html_title = f"backprop_xp {release}"
html_extra_path = ["_extra"]  # the pages of the articles, made below
(HERE / "_extra").mkdir(exist_ok=True)
html_show_sphinx = False
highlight_language = "text"
trim_doctest_flags = True
nb_execution_mode = "off"  # notebooks are run by scripts/full, all other examples by pytest
nb_merge_streams = True
myst_heading_anchors = 3
myst_enable_extensions = []  # formulas are plain text: MathJax would need a network
suppress_warnings = ["myst.header"]  # pages that are read on a forge, too, begin with their own levels

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
default_role = "code"
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"


def make(app):
    """Make what is not written by hand: the API's pages, the gallery's pictures, the articles' pages."""
    from backprop_xp.articles.site import site

    reference.write(HERE / "know" / "api")
    pictures = HERE / "gallery" / "pictures"
    pictures.mkdir(exist_ok=True)
    for script in sorted((HERE / "gallery").glob("*.py")):
        module = importlib.import_module(f"gallery.{script.stem}")
        module.draw().savefig(pictures / f"{script.stem}.png", dpi=110)
    site(HERE / "_extra" / "articles")


def setup(app):
    """Connect the hooks."""
    app.connect("builder-inited", make)
    app.connect("autodoc-skip-member", reference.skipped)
    app.connect("autodoc-process-docstring", reference.to_rst, priority=400)  # before napoleon
