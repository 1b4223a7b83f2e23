"""The picture of a run: for each work, how many times as long the other libraries take."""

from pathlib import Path
from typing import Any

from .report import RIVALS, best

_GREY = "#808890"  # readable on white and on black
_LOOKS = {
    "torch": ("PyTorch", "#e4643c"),
    "jax": ("JAX", "#8a63d2"),
    "plain": ("hand-written NumPy", "#3b8fd6"),
    "scikit-learn": ("scikit-learn", "#e0a020"),
    "thinc": ("Thinc", "#2fa37a"),
    "numba": ("a loop compiled by Numba", "#b5559b"),
}
_STYLE: dict[str, Any] = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), _GREY),
    "font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "benchmarks",
}  # fmt: skip
_ABOUT = "how many times as long others need for the same training (beyond 1: backprop_xp is faster)"
_CPU = {  # the works that are drawn; of a GPU all are
    "W0/1347": "1,347 rows of 64,\nfit, batch 200",
    "W1a": "one neuron,\nsample by sample", "W1b": "2-2-2-1 sigmoid,\nsample by sample",
    "W2": "32-64-64-10,\nbatch 32", "W3": "784-512-256-10,\nbatch 128",
    "W4": "1024-4096-4096-1024,\nbatch 1024",
    "W5": "784-512-256-10,\nfrom a file", "W6/16": "16 layers of 64,\nbatch 32",
}  # fmt: skip
_PANELS = {
    "cpu": {
        "NumPy, machine code": ("ours native", "ours native fit", "ours native file"),
        "NumPy backend": ("ours numpy", "ours numpy fit", "ours numpy file"),
        "JAX backend": ("ours jax",),
    },
    "cuda": {"CuPy backend": ("ours cupy",), "JAX backend": ("ours jax",)},
}


def draw(found: dict[str, Any], to: Path) -> list[Path]:
    """Draw the picture as .svg and as .png; return their paths.

    Args:
        found: the results of a run.
        to: the path, without a suffix.

    Raises:
        ValueError: the results are of a quick run, or of works that are not drawn.
        ImportError: matplotlib is not installed.
    """
    if found["quick"]:
        msg = "the times of a quick run mean nothing, so they are not drawn"
        raise ValueError(msg)
    shown = [each for each in found["works"] if each["ratios"] and (each["name"] in _CPU or found["gpu"])]
    if not shown:
        msg = "no work that the picture shows was timed"
        raise ValueError(msg)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    took_part = {name for each in shown for name in each["ratios"]}
    panels = {title: ours for title, ours in _PANELS[found["device"]].items() if took_part & set(ours)}
    drawn: set[str] = set()
    with plt.rc_context(_STYLE):
        size = (max(10, 5 * len(panels)), 1.1 + 0.92 * len(shown))
        figure, (axes,) = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True,
                                       squeeze=False, layout="constrained")  # fmt: skip
        for axis, (title, ours) in zip(axes, panels.items(), strict=True):
            drawn |= _panel(axis, shown, ours)
            axis.set_title(f"backprop_xp, {title}", fontsize=11, fontweight="bold")
        titles = [_CPU.get(each["name"], each["title"].replace(", ", ",\n", 1)) for each in shown]
        axes[0].set_yticks(range(len(shown)), titles)
        axes[0].invert_yaxis()
        card = f"\n{found['gpu']['name']}" if found["gpu"] else ""
        figure.supxlabel(_ABOUT + card, fontsize=10, color=_GREY)
        names, colours = zip(*(_LOOKS[each] for each in RIVALS if each in drawn), strict=True)
        handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
        figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
        paths = [to.with_suffix(".svg"), to.with_suffix(".png")]
        for path in paths:
            more: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
            figure.savefig(path, transparent=True, **more)
        plt.close(figure)
    return paths


def _panel(axis: Any, works: list[dict[str, Any]], ours: tuple[str, ...]) -> set[str]:
    """Draw the bars of one backend, a group per work and a bar per rival; return the rivals drawn."""
    drawn: set[str] = set()
    axis.set_xscale("log")
    axis.axvline(1, color=_GREY, linewidth=1)
    for y, work in enumerate(works):
        name = next((each for each in ours if each in work["ratios"]), None)
        if name is None:
            continue
        rivals = {rival: found[1]["median"] for rival in RIVALS if (found := best(work, name, rival))}
        drawn |= rivals.keys()
        thick = 0.86 / max(3, len(rivals))
        for k, (rival, times) in enumerate(rivals.items()):
            at = y + (k - (len(rivals) - 1) / 2) * thick
            axis.barh(at, times - 1, thick * 0.86, left=1, color=_LOOKS[rival][1])
            text = f"{times:,.0f}×" if times >= 10 else f"{times:.2g}×"
            axis.annotate(text, (max(times, 1), at), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=8, color=_GREY)  # fmt: skip
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(lambda v, _: f"{v:g}×")
    axis.xaxis.set_minor_formatter("")
    axis.margins(x=0.12)
    return drawn
