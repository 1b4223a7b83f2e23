"""The pages of the API: one a module, with every public name, from the docstrings."""

import importlib
import inspect
import re

MODULES = {
    "": "The names most programs need, `bp.…`",
    "activations": "Activations",
    "arrays": "Types of arrays",
    "backends": "Backends: one an array library",
    "convert": "From and to Torch and scikit-learn",
    "data": "Rows to learn from",
    "errors": "Errors",
    "exact": "Fractions",
    "files": "Model files and run directories",
    "initialization": "Initial weights",
    "insight": "Traces and explanations",
    "layers": "Layers",
    "learner": "The learner: a net that learns",
    "losses": "Losses",
    "net": "Nets",
    "onnx": "ONNX export",
    "params": "Where each parameter lies in w",
    "schedules": "Rates that change",
    "sklearn": "Estimators for scikit-learn",
    "step": "One training step",
    "testing": "Checks for units of your own",
    "train": "Training",
    "train.metrics": "Metrics",
    "updates": "Update rules",
    "workers": "Many workers",
}
SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Yields")


def names(module):
    """The public names of a module: those of its own room, in the order they are made."""
    listed = getattr(module, "__all__", ())
    for name, value in vars(module).items():
        own = (getattr(value, "__module__", None) or "").startswith(module.__name__)
        if not (name.startswith("_") or inspect.ismodule(value)) and (own or name in listed):
            yield name, value


def write(folder):
    """Write the pages, and an index of them."""
    folder.mkdir(parents=True, exist_ok=True)
    index = [
        "# API reference",
        "",
        "Every public name, from its docstring. A page for each module:",
        "",
        "```{toctree}",
        ":maxdepth: 1",
        "",
    ]
    for short, title in MODULES.items():
        full = f"backprop_xp.{short}".rstrip(".")
        module = importlib.import_module(full)
        lines = [f"# {title}", "", "```{eval-rst}", f".. automodule:: {full}", "   :no-members:", "```", ""]
        for name, value in names(module):
            lines += ["```{eval-rst}", *directive(full, name, value, inside=bool(short)), "```", ""]
        (folder / f"{short or 'bp'}.md").write_text("\n".join(lines), encoding="utf-8")
        index.append(short or "bp")
    (folder / "index.md").write_text("\n".join([*index, "```", ""]), encoding="utf-8")


def directive(module, name, value, *, inside):
    """The directive for a name, by its kind."""
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        lines = [f".. auto{kind}:: {module}.{name}"]
        lines += ["   :members:"] if inside else []
    elif inspect.isroutine(value):
        lines = [f".. autofunction:: {module}.{name}"]
    else:
        lines = [f".. py:data:: {module}.{name}", f"   :value: {value!r}"[:200]]
    return lines if inside else [*lines, "   :no-index:"]


def skipped(app, what, name, obj, skip, options):
    """Leave out fields of named tuples, which their class tells of, and what scikit-learn adds."""
    added = re.fullmatch(r"set_\w+_request|get_metadata_routing", name)
    return True if added or type(obj).__name__ == "_tuplegetter" else None


def to_rst(app, what, name, obj, options, lines):
    """A docstring as it is written here, plain text, as reStructuredText: nothing in it is markup but `…`.

    Indented blocks are shown as they are; sections of arguments and examples are left to napoleon.
    """
    found, block, section, example = [], False, False, False
    for line in lines:
        text = line.rstrip()
        example = text.lstrip().startswith(">>>") or (example and bool(text))
        if re.fullmatch(rf"({'|'.join(SECTIONS)}):", text):
            section = True
        elif text and not text.startswith(" "):
            section = False
        indented = text.startswith(" ") and not section and not example
        if indented and not block:
            found += ["::", ""] if not found or not found[-1] else ["", "::", ""]
        if text:
            block = indented
        found.append(text if indented or example else escaped(text))
    lines[:] = found


def escaped(text):
    """A line in which stars, bars and final underscores are characters, outside of backticks."""
    parts = re.split(r"(`[^`]*`)", text)
    for k in range(0, len(parts), 2):
        parts[k] = re.sub(r"([*|\\])", r"\\\1", parts[k])
        parts[k] = re.sub(r"(\w)_(?!\w)", r"\1\\_", parts[k])
    return "".join(parts)
