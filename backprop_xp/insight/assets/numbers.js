// Numbers as people read them: four digits, “≈” only where a number was rounded; fractions on a switch.

const DIGITS = 4, MOST_DIGITS = 17, SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const SPECIAL = { nan: "NaN", inf: "∞", "-inf": "−∞" };

const signOf = text => text in SPECIAL ? (text === "nan" ? 0 : text === "inf" ? 1 : -1) : Fraction.of(text).sign;

// −1, 0 or 1: whether the first is smaller, neither, or larger; 0 where one is not finite.
const compared = (a, b) => a in SPECIAL || b in SPECIAL ? 0 : Fraction.of(a).minus(Fraction.of(b)).sign;

// The digits and the exponent of a positive fraction, rounded half to even.
function rounded(value, digits) {
  let exponent = `${value.n}`.length - `${value.d}`.length;
  const power = k => k >= 0 ? new Fraction(10n ** BigInt(k)) : new Fraction(1n, 10n ** BigInt(-k));
  if (value.minus(power(exponent)).sign < 0) exponent -= 1;
  const scaled = value.over(power(exponent - digits + 1));
  let whole = scaled.n / scaled.d;
  const rest = 2n * (scaled.n % scaled.d);
  if (rest > scaled.d || (rest === scaled.d && whole % 2n)) whole += 1n;
  const exact = new Fraction(whole).times(power(exponent - digits + 1)).equals(value);
  if (whole === 10n ** BigInt(digits)) { whole /= 10n; exponent += 1; }
  return { text: `${whole}`.replace(/0+$/, "") || "0", exponent, exact };
}

function number(text, { digits = DIGITS, plus = false, fractions = false } = {}) {
  if (text in SPECIAL) return SPECIAL[text];
  const value = Fraction.of(text), mark = value.sign < 0 ? "−" : plus && value.sign > 0 ? "+" : "";
  if (value.sign === 0) return "0";
  if (fractions && value.d > 1n && `${text}`.includes("/")) return mark + value.abs;
  const { text: found, exponent, exact } = rounded(value.abs, digits), about = exact ? "" : "≈ ";
  if (exponent < -4 || exponent >= Math.max(digits, 7)) {
    const power = "10" + [...`${exponent}`].map(c => SUPERSCRIPTS[c]).join("");
    const factor = found.length > 1 ? `${found[0]}.${found.slice(1)}` : found;
    return about + mark + (factor === "1" ? power : `${factor}×${power}`);
  }
  if (exponent < 0) return `${about}${mark}0.${"0".repeat(-exponent - 1)}${found}`;
  const whole = found.padEnd(exponent + 1, "0"), below = whole.slice(exponent + 1);
  return about + mark + whole.slice(0, exponent + 1) + (below && `.${below}`);
}

// Two numbers with as many digits as tell them apart.
function pair(a, b, options = {}) {
  let digits = options.digits || DIGITS;
  const both = () => [a, b].map(each => number(each, { ...options, digits }));
  let found = both();
  while (digits < MOST_DIGITS && found[0] === found[1] && a !== b && !(a in SPECIAL) && !Fraction.of(a).equals(Fraction.of(b))) {
    digits += 1;
    found = both();
  }
  return found;
}
