"""A GPU's results as tables for the terminal, and as a picture."""

from pathlib import Path
from typing import Any

from ..goals import verdict
from ..picture import _COLOURS, _GREY, _LABELS, _STYLE, _panel
from ..report import number
from . import goals

_PANELS = {"CuPy backend": ("ours cupy",), "JAX backend": ("ours jax gpu",)}
_ABOUT = "how many times as long others need for the same training (beyond 1: backprop_xp is faster)"
_CEILINGS = {
    "copy": (1e-9, "GB/s copied (read and written)"),
    "float32": (1e-12, "TFLOP/s float32"), "tf32": (1e-12, "TFLOP/s tf32"),
    "bfloat16": (1e-12, "TFLOP/s bfloat16"), "float16": (1e-12, "TFLOP/s float16"),
    "h2d": (1e-9, "GB/s to the GPU, pinned"), "d2h": (1e-9, "GB/s from the GPU, pinned"),
    "node": (1e6, "µs a node of a graph"),
}  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """Everything, part by part; what failed is said where it would have stood."""
    lines = [_machine(found), ""]
    best = found["ceilings"].get("best", {})
    lines += [f"{number(best[k] * scale):>8}  {what}" for k, (scale, what) in _CEILINGS.items() if k in best]
    lines += [f"not measured: {name}: {why}" for name, why in found["ceilings"].get("failed", {}).items()]
    lines += ["", *_tests(found["tests"])]
    for work in found["works"]:
        lines += ["", *_work(work)]
    lines += ["", *(f"{part}: {why}" for part, why in found["failed"].items()), ""]
    lines += [f"{goal['level']:7}  {goal['work']:8}  {goals.told(goal):70}  {verdict(goal)}"
              for goal in found["goals"] if not found["quick"]]  # fmt: skip
    return "\n".join([*lines, "", f"{found['seconds']:.0f} s of {found['budget']:g} s"])


def _machine(found: dict[str, Any]) -> str:
    gpu, host = found["gpu"], found["machine"]
    card = f"{gpu['name']}, {gpu['gigabytes']} GB, driver {gpu['driver']}" if gpu else "no GPU"
    quick = "; QUICK: sizes too small to mean anything" if found["quick"] else ""
    return f"{card}; {host['processor']}, {host['cores']} cores; {found['date']}{quick}"


def _tests(tests: dict[str, Any]) -> list[str]:
    if not tests:
        return ["tests: not run"]
    counts = ", ".join(f"{tests[kind]} {kind}" for kind in ("passed", "failed", "skipped"))
    lines = [f"{tests['file']}: {counts}{'; ended: ' + tests['ended'] if tests['ended'] else ''}"]
    reasons: dict[str, list[str]] = {}
    for name, why in tests["told"].items():
        reasons.setdefault(why, []).append(name)
    many = {why: f" and {len(names) - 1} more" if len(names) > 1 else "" for why, names in reasons.items()}
    return lines + [f"  {names[0]}{many[why]}: {why}" for why, names in reasons.items()]


def _work(work: dict[str, Any]) -> list[str]:
    ours = [name for name in work["ratios"] if "eager" not in name]
    heads = [
        "",
        work["unit"],
        "quartiles",
        "of ceiling",
        "kernels",
        "GPU MB",
        *(f"/ {name}" for name in ours),
    ]
    rows = [heads]
    for name, each in work["contenders"].items():
        told, facts = each["told"], work["facts"].get(name, {})
        share = max(work["shares"].get(name, {}).values(), default=None)
        rows.append([
            name, number(told["median"]), f"{number(told['low'])} to {number(told['high'])}",
            "" if share is None else f"{share:.0%}", str(facts.get("kernels", "")),
            number(facts.get("gpu_megabytes")),
            *(number(work["ratios"][a][name]["median"]) if a != name else "1" for a in ours),
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rounds = max((len(each["seconds"]) for each in work["contenders"].values()), default=0)
    return [
        f"{work['name']}  {work['title']}",
        f"losses compared with: {work['reference']}; {rounds} rounds",
        *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows),
        *(f"{name}: not timed: {why}" for name, why in work["failed"].items()),
    ]


def draw(found: dict[str, Any], folder: Path) -> list[Path]:
    """Draw benchmarks-gpu.svg and .png.

    Raises:
        ValueError: the results are of a quick run, or hold no work.
        ImportError: matplotlib is not installed.
    """
    works = [work for work in found["works"] if work["ratios"]]
    if found["quick"] or not works:
        msg = "there is nothing to draw: a quick run's figures mean nothing" if works else "nothing was timed"
        raise ValueError(msg)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(1, len(_PANELS), figsize=(10, 1.4 + 0.8 * len(works)), sharex=True,
                                    sharey=True, layout="constrained")  # fmt: skip
        for axis, (title, ours) in zip(axes, _PANELS.items(), strict=True):
            _panel(axis, works, ours)
            axis.set_title(f"backprop_xp, {title}", fontsize=11, fontweight="bold")
        axes[0].set_yticks(range(len(works)), [work["title"].replace(", ", ",\n", 1) for work in works])
        axes[0].invert_yaxis()
        figure.supxlabel(f"{_ABOUT}\n{found['gpu'].get('name', '')}", fontsize=10, color=_GREY)
        shown = ("torch", "jax", "numpy")
        handles = [plt.Rectangle((0, 0), 1, 1, color=_COLOURS[each]) for each in shown]
        figure.legend(handles, [_LABELS[each] for each in shown], loc="outside upper center", ncols=3,
                      frameon=False)  # fmt: skip
        paths = [folder / f"benchmarks-gpu.{kind}" for kind in ("svg", "png")]
        for path in paths:
            more = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
            figure.savefig(path, transparent=True, **more)
        plt.close(figure)
    return paths
