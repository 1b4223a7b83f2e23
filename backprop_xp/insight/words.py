"""Numbers and sentences of an explanation as people read them; it reads the document alone.

A number has four digits and "≈" only where it was rounded. Of two numbers that are compared, as many
digits are shown as tell them apart.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

DIGITS, MOST_DIGITS = 4, 17
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Json = Mapping[str, Any]


def number(text: str, digits: int = DIGITS, *, sign: bool = False, fractions: bool = False) -> str:
    """A number of the document, for people.

    Args:
        text: a fraction, an integer, or a float's repr.
        digits: that are shown.
        sign: show a plus, too.
        fractions: show fractions as they are.

    >>> number("3/4"), number("1/3"), number("-1/10000000"), number("12", sign=True), number("1e+300")
    ('0.75', '≈ 0.3333', '−10⁻⁷', '+12', '10³⁰⁰')
    """
    if text in ("nan", "inf", "-inf"):
        return {"nan": "NaN", "inf": "∞", "-inf": "−∞"}[text]
    value = Fraction(text)
    mark = "−" if value < 0 else "+" if sign and value > 0 else ""
    if fractions and value.denominator > 1 and "/" in text:
        return f"{mark}{abs(value)}"
    shown = _rounded(abs(value), digits)
    about = "" if Fraction(shown) == abs(value) else "≈ "
    return f"{about}{mark}{_powers(shown)}"


def _rounded(value: Fraction, digits: int) -> str:
    """The digits of a number that is not negative, as Python writes them; without zeros at the end."""
    if value == 0:
        return "0"
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    exponent += value >= Fraction(10) ** (exponent + 1)
    exponent -= value < Fraction(10) ** exponent
    scaled = round(value / Fraction(10) ** (exponent - digits + 1))
    if scaled == 10**digits:
        scaled, exponent = scaled // 10, exponent + 1
    text = str(scaled).rstrip("0") or "0"
    if -4 <= exponent < max(digits, 7):
        if exponent < 0:
            return f"0.{'0' * (-exponent - 1)}{text}"
        whole = text.ljust(exponent + 1, "0")
        return f"{whole[: exponent + 1]}.{whole[exponent + 1 :]}".rstrip(".")
    return f"{text[0]}.{text[1:]}".rstrip(".") + f"e{exponent}"


def _powers(text: str) -> str:
    factor, e, exponent = text.partition("e")
    if not e:
        return text
    power = "10" + exponent.translate(_SUPERSCRIPTS)
    return power if factor == "1" else f"{factor}×{power}"


def pair(first: str, second: str, digits: int = DIGITS) -> tuple[str, str]:
    """Two numbers, with as many digits as tell them apart.

    >>> pair("30901/100000", "30902/100000")
    ('0.30901', '0.30902')
    """
    while (
        digits < MOST_DIGITS and number(first, digits) == number(second, digits) and not _same(first, second)
    ):
        digits += 1
    return number(first, digits), number(second, digits)


def _same(first: str, second: str) -> bool:
    try:
        return Fraction(first) == Fraction(second)
    except ValueError:
        return first == second


def sign_of(text: str) -> int:
    """−1, 0 or 1; 0 for NaN."""
    if text in ("nan", "inf", "-inf"):
        return {"nan": 0, "inf": 1, "-inf": -1}[text]
    value = Fraction(text)
    return (value > 0) - (value < 0)


def slots(step: Json, why: Json) -> dict[str, str]:
    """What the slots of a weight's sentences are filled with."""
    found = {key: number(why[key]) for key in ("delta", "e", "net", "slope", "grad", "input") if why.get(key)}
    found |= {"unit": why["unit"], "from": why["from"]}
    found["change"] = number(why["change"].removeprefix("-"))
    if step["outcome"]:
        found["o"], found["t"] = pair(step["outcome"]["o"], step["outcome"]["t"])
    found |= {key: str(n) for key, n in (why.get("votes") or {}).items()}
    if why.get("own_net"):
        found["own_net"] = number(why["own_net"], sign=True)
    if why.get("share"):
        found["loss"], found["loss_after"] = pair(step["loss"], step["loss_after"])
        found["share"] = number(why["share"], sign=True)
        found["percent"] = number(why["percent"] or "0", 3).removeprefix("≈ ")
    return found


def sentences(step: Json, why: Json, table: Mapping[str, str]) -> list[str]:
    """The sentences about a weight, their slots filled."""
    filled = slots(step, why)
    if why.get("alone_loss"):
        alone = filled | dict(zip(("loss", "alone_loss"), pair(step["loss"], why["alone_loss"]), strict=True))
    else:
        alone = filled
    found = [table[key].format(**(alone if key.startswith("alone") else filled)) for key in why["says"]]
    return [text.replace("= ≈", "≈") for text in found]


def name_of(run: Json, block: str, at: Sequence[int]) -> str:
    """How a weight is named: the unit it belongs to and what it multiplies.

    >>> run = {"net": {"layers": [
    ...     {"name": "input", "kind": "input", "labels": ["x1", "x2"], "inputs": []},
    ...     {"name": "dense1", "kind": "dense", "labels": ["health"], "inputs": ["input"]}]}}
    >>> name_of(run, "dense1.w", [1, 0]), name_of(run, "dense1.b", [0])
    ('x2 → health', 'bias of health')
    """
    layers = {layer["name"]: layer for layer in run["net"]["layers"]}
    name, _, p = block.rpartition(".")
    layer = layers[name]
    if layer["kind"] == "dense" and len(at) == 2 and p == "w":
        source = layers[layer["inputs"][0]]["labels"]
        if at[0] < len(source):
            return f"{source[at[0]]} → {layer['labels'][at[1]]}"
    if p == "b" and len(at) == 1:
        return f"bias of {layer['labels'][at[0]]}"
    return f"{block}[{', '.join(map(str, at))}]"
