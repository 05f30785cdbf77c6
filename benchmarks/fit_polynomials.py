"""Prints the table of plugins/cpu/pluggrad_cpu/coefficients.py. Needs mpmath; nothing imports this file.

Each polynomial is the best approximation on its interval by Remez' exchange algorithm: its largest weighted
error, printed as a power of two, is as small as can be.
"""
from __future__ import annotations

import struct
import textwrap
from collections.abc import Callable

from mpmath import cos, erf, erfc, exp, log, lu_solve, matrix, mp, mpf, sin, sqrt, tanh

mp.dps = 60
Function = Callable[[mpf], mpf]


def remez(f: Function, low: float, high: float, degree: int, weight: Function) -> tuple[list[mpf], mpf]:
    """Coefficients (lowest first) that minimize the largest |weight * (p - f)|, and that maximum."""
    n, low, high = degree + 2, mpf(low), mpf(high)
    points = [(low + high) / 2 - (high - low) / 2 * cos(mp.pi * i / (n - 1)) for i in range(n)]
    grid = [(low + high) / 2 - (high - low) / 2 * cos(mp.pi * i / 1500) for i in range(1501)]
    samples = [(x, f(x), weight(x)) for x in grid]
    for _ in range(12):
        system = matrix(n, n)
        for row, x in enumerate(points):
            for column in range(degree + 1):
                system[row, column] = x**column
            system[row, degree + 1] = (-1) ** row / weight(x)
        solution = lu_solve(system, matrix([f(x) for x in points]))
        coefficients = list(solution)[: degree + 1]
        errors = [(x, w * (mp.polyval(coefficients[::-1], x) - y)) for x, y, w in samples]
        points = _alternating(errors, n) or points
    return coefficients, max(abs(e) for _, e in errors)


def _alternating(errors: list[tuple[mpf, mpf]], n: int) -> list[mpf]:
    """The extremum of each run of errors of one sign, when there are enough of them."""
    peaks: list[tuple[mpf, mpf]] = []
    for x, error in errors:
        if peaks and (peaks[-1][1] > 0) == (error > 0):
            if abs(error) > abs(peaks[-1][1]):
                peaks[-1] = x, error
        else:
            peaks.append((x, error))
    while len(peaks) > n:
        peaks.pop(0 if abs(peaks[0][1]) < abs(peaks[-1][1]) else -1)
    return [x for x, _ in peaks] if len(peaks) == n else []


def root_of_square(f: Function) -> Function:
    """f(x) as a function of z = x**2."""
    return lambda z: f(sqrt(z))


TINY = mpf(10) ** -12
SQRT2 = sqrt(mpf(2))
LOG_S = ((SQRT2 - 1) / (SQRT2 + 1)) ** 2
QUARTER = (mp.pi / 4) ** 2 * mpf("1.001")
# name: f, interval, weight, degrees for float32 and float64
HALF_LOG2 = log(mpf(2)) / 2 * mpf("1.001")
FITS = {
    "EXP": (lambda r: (exp(r) - 1 - r) / r**2 if abs(r) > TINY else mpf(1) / 2,
            -HALF_LOG2, HALF_LOG2, lambda r: r**2 / exp(r) + TINY, 4, 9),
    "EXP2": (lambda r: (mpf(2) ** r - 1) / r if abs(r) > TINY else log(mpf(2)),
             -0.5, 0.5, lambda r: abs(r) / 2**r + TINY, 5, 10),
    "LOG": (root_of_square(lambda s: (log((1 + s) / (1 - s)) - 2 * s) / s**3),
            TINY, LOG_S, lambda z: z, 2, 6),
    "SIN": (root_of_square(lambda x: (sin(x) - x) / x**3), TINY, QUARTER, lambda z: z, 2, 5),
    "COS": (root_of_square(lambda x: (cos(x) - 1 + x**2 / 2) / x**4), TINY, QUARTER, lambda z: z**2, 2, 5),
    "TANH": (root_of_square(lambda x: (tanh(x) - x) / x**3), TINY, 0.625**2, lambda z: z, 4, 10),
    "ERF": (root_of_square(lambda x: erf(x) / x - 1), TINY, 1, lambda z: 1, 6, 12),
    "ERFC": (lambda x: -log(erfc(x)), 1, None, lambda x: erfc(x), 6, 18),
}
ERF_ONE = {"float": 4.0, "double": 6.0}  # from here on erf rounds to 1


def rounded(value: mpf, element: str) -> str:
    """The shortest text that reads back as the same float32 or float64."""
    if element == "double":
        return repr(float(value))
    near = struct.unpack("<f", struct.pack("<f", float(value)))[0]
    for digits in range(1, 10):
        text = f"{near:.{digits}g}"
        if struct.unpack("<f", struct.pack("<f", float(text)))[0] == near:
            return text
    return repr(near)


def main() -> None:
    for element, which in (("float", 0), ("double", 1)):
        print(f'    "{element}": {{')
        for name, (f, low, high, weight, *degrees) in FITS.items():
            top = ERF_ONE[element] if high is None else high
            coefficients, error = remez(f, low, top, degrees[which], weight)
            values = ", ".join(rounded(c, element) for c in coefficients)
            print(f'        "{name}": (  # error 2**{float(log(error, 2)):.1f}')
            print(textwrap.fill(values + "),", 108, initial_indent=" " * 12, subsequent_indent=" " * 12))
        print("    },")


if __name__ == "__main__":
    main()
