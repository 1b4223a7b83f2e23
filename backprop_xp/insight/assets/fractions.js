// Exact arithmetic: fractions of BigInts, in lowest terms, the denominator positive.

const gcd = (a, b) => { while (b) [a, b] = [b, a % b]; return a < 0n ? -a : a; };

class Fraction {
  constructor(n, d = 1n) {
    if (d === 0n) throw new Error("a number is divided by 0");
    if (d < 0n) [n, d] = [-n, -d];
    const g = gcd(n, d) || 1n;
    this.n = n / g;
    this.d = d / g;
  }

  // "3/4", "-12", "0.25", "1e-7": as Python's Fraction reads them.
  static of(text) {
    if (text instanceof Fraction) return text;
    const match = /^\s*([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?(?:\/(\d+))?\s*$/.exec(String(text).replace("−", "-"));
    if (!match || !(match[2] || match[3]) || (match[5] && match[3] !== undefined)) throw new Error(`“${text}” is not a number`);
    const [, sign, whole, part = "", power = "0", below = "1"] = match;
    if (Math.abs(Number(power)) > 400) throw new Error(`“${text}” is too large or too small`);
    const shift = BigInt(power) - BigInt(part.length);
    const n = BigInt(whole + part || "0") * (sign === "-" ? -1n : 1n) * (shift > 0n ? 10n ** shift : 1n);
    return new Fraction(n, BigInt(below) * (shift < 0n ? 10n ** -shift : 1n));
  }

  plus(b) { return new Fraction(this.n * b.d + b.n * this.d, this.d * b.d); }
  minus(b) { return new Fraction(this.n * b.d - b.n * this.d, this.d * b.d); }
  times(b) { return new Fraction(this.n * b.n, this.d * b.d); }
  over(b) { return new Fraction(this.n * b.d, this.d * b.n); }
  get sign() { return this.n > 0n ? 1 : this.n < 0n ? -1 : 0; }
  get abs() { return this.n < 0n ? new Fraction(-this.n, this.d) : this; }
  equals(b) { return this.n === b.n && this.d === b.d; }
  toString() { return this.d === 1n ? `${this.n}` : `${this.n}/${this.d}`; }
}

const ZERO = new Fraction(0n), ONE = new Fraction(1n);
const sum = list => list.reduce((a, b) => a.plus(b), ZERO);
