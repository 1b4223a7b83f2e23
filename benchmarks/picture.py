"""One picture of a run: how many times as long the others need, work by work."""

from pathlib import Path
from typing import Any

from .report import RIVALS, best

FOLDER = Path(__file__).resolve().parent.parent / "docs"
_GREY = "#808890"  # readable on white and on black
_COLOURS = {
    "torch": "#e4643c",
    "jax": "#8a63d2",
    "numpy": "#3b8fd6",
    "scikit-learn": "#e0a020",
    "thinc": "#2fa37a",
}
_LABELS = {"torch": "PyTorch", "jax": "JAX", "numpy": "hand-written NumPy", "scikit-learn": "scikit-learn",
           "thinc": "Thinc"}  # fmt: skip
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), _GREY),
    "font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "benchmarks",
}  # fmt: skip
_ABOUT = "how many times as long others need for the same training (beyond 1: backprop_xp is faster)"
_WORKS = {  # those worth a reader's glance
    "W1a": "one neuron,\nsample by sample", "W1b": "2-2-2-1 sigmoid,\nsample by sample",
    "W2": "32-64-64-10,\nbatch 32", "W3": "784-512-256-10,\nbatch 128",
    "W4": "1024-4096-4096-1024,\nbatch 1024",
    "W5": "784-512-256-10,\nfrom a file", "W6/16": "16 layers of 64,\nbatch 32",
}  # fmt: skip
_PANELS = {"NumPy backend": ("ours numpy", "ours numpy file"), "JAX backend": ("ours jax",)}


def draw(found: dict[str, Any], folder: Path = FOLDER) -> list[Path]:
    """Draw benchmarks.svg and benchmarks.png.

    Raises:
        ValueError: the results are of a quick run, which mean nothing.
        ImportError: matplotlib is not installed.
    """
    if found["quick"]:
        msg = "a quick run's figures mean nothing, so they are not drawn"
        raise ValueError(msg)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    works = [work for work in found["works"] if work["name"] in _WORKS]
    with plt.rc_context(_STYLE):
        height = 1.1 + 0.92 * len(works)
        figure, axes = plt.subplots(
            1, len(_PANELS), figsize=(10, height), sharex=True, sharey=True, layout="constrained"
        )
        for axis, (title, ours) in zip(axes, _PANELS.items(), strict=True):
            _panel(axis, works, ours)
            axis.set_title(f"backprop_xp, {title}", fontsize=11, fontweight="bold")
        axes[0].set_yticks(range(len(works)), [_WORKS[work["name"]] for work in works])
        axes[0].invert_yaxis()
        figure.supxlabel(_ABOUT, fontsize=10, color=_GREY)
        handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in _COLOURS.values()]
        figure.legend(
            handles, _LABELS.values(), loc="outside upper center", ncols=len(_LABELS), frameon=False
        )
        paths = [folder / "benchmarks.svg", folder / "benchmarks.png"]
        for path in paths:
            more = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
            figure.savefig(path, transparent=True, **more)
        plt.close(figure)
    return paths


def _panel(axis: Any, works: list[dict[str, Any]], ours: tuple[str, ...]) -> None:
    """Bars of one backend: a group a work, a bar a rival."""
    axis.set_xscale("log")
    axis.axvline(1, color=_GREY, linewidth=1)
    for y, work in enumerate(works):
        name = next((each for each in ours if each in work["ratios"]), None)
        if name is None:
            continue
        rivals = {family: r for family in RIVALS if (r := best(work, name, family))}
        thick = 0.86 / max(3, len(rivals))
        for k, (family, (_, times)) in enumerate(rivals.items()):
            at, value = y + (k - (len(rivals) - 1) / 2) * thick, times["median"]
            axis.barh(at, value - 1, thick * 0.86, left=1, color=_COLOURS[family])
            text = f"{value:,.0f}×" if value >= 10 else f"{value:.2g}×"
            axis.annotate(text, (max(value, 1), at), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=8, color=_GREY)  # fmt: skip
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}×")
    axis.xaxis.set_minor_formatter("")
    axis.margins(x=0.12)
