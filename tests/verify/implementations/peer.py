"""An example in Python that needs the standard library alone: `python -m ict_ref.verify exec "python peer.py"`.

`--deviation` makes it use EDM's c_skip, which is 1 at noise level 0, not at sigma_min.
"""

import json
import math
import sys
from itertools import pairwise
from typing import Any


def nested(array: dict[str, Any]) -> Any:
    """Return a vector's array as nested lists; NaN and infinity are words."""
    if "levels" in array:
        return levels(array["levels"])
    if "generated" in array:
        return generated(**array["generated"])
    return array["tensor"]


def levels(n: int) -> list[float]:
    """Return n levels from 0.002 to 80."""
    a, b = 0.4115597137836079, 1.8701222535385968
    roots = [a + i * (b - a) / (n - 1) for i in range(n)]
    return [0.002, *(t * t * t * t * t * t * t for t in roots[1:-1]), 80.0]


def generated(seed: int, shape: list[int], low: float, high: float) -> Any:
    """Return uniform numbers from SplitMix64."""
    values = []
    for _ in range(math.prod(shape)):
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
        values.append(low + (high - low) * (((z ^ (z >> 31)) >> 11) / 2**53))
    # One list for each example: its other axes do not matter here.
    size = len(values) // shape[0]
    return [values[i : i + size] for i in range(0, len(values), size)]


def number(value: float | dict[str, str]) -> float:
    """Return a number, which is {"float": "nan"} where JSON cannot hold it."""
    return float(value["float"]) if isinstance(value, dict) else value


def flat(value: Any) -> list[float]:
    """Return the numbers of nested lists."""
    return [one for part in value for one in flat(part)] if isinstance(value, list) else [float(value)]


def shape(value: Any) -> list[int]:
    """Return the shape of nested lists."""
    return [len(value), *(shape(value[0]) if value else [])] if isinstance(value, list) else []


def mapped(function: Any, value: Any) -> Any:
    """Return nested lists of a function's values."""
    return [mapped(function, part) for part in value] if isinstance(value, list) else function(float(value))


def check(holds: bool, needs: str) -> None:
    """Reject arguments outside a formula's domain."""
    if not holds:
        raise ValueError(f"needs {needs}")


def level(sigma: float) -> float:
    check(0 < sigma < math.inf, "0 < sigma < infinity")
    return sigma


def c_skip(sigma: Any, sigma_min: Any = 0.002, sigma_data: Any = 0.5) -> Any:
    least, data = number(sigma_min), number(sigma_data)
    check(0 < least < math.inf and 0 < data < math.inf, "positive sigma_min and sigma_data")
    least = 0.0 if "--deviation" in sys.argv else least
    return mapped(lambda s: 1 / (1 + ((level(s) - least) / data) ** 2), nested(sigma))


def c_noise(sigma: Any) -> Any:
    return mapped(lambda s: math.log(level(s)) / 4, nested(sigma))


def pseudo_huber_constant(dim: int) -> float:
    check(dim >= 1, "dim >= 1")
    return 0.00054 * math.sqrt(dim)


def pseudo_huber(x: Any, y: Any, c: Any) -> list[float]:
    c = number(c)
    check(0 < c < math.inf, "0 < c < infinity")
    first, second = nested(x), nested(y)
    check(shape(first) == shape(second), "x and y of one shape")
    squares = [
        math.fsum((a - b) ** 2 for a, b in zip(flat(one), flat(other), strict=True))
        for one, other in zip(first, second, strict=True)
    ]
    return [square / (math.sqrt(square + c * c) + c) for square in squares]


def uniform_weights(sigmas: Any) -> list[float]:
    grid = [level(float(sigma)) for sigma in nested(sigmas)]
    ascending = all(low < high for low, high in pairwise(grid))
    check(len(grid) >= 2 and ascending, "two levels or more, ascending")
    return [1.0] * (len(grid) - 1)


FUNCTIONS = {
    function.__name__: function for function in (c_skip, c_noise, pseudo_huber_constant, pseudo_huber, uniform_weights)
}


def main() -> None:
    """Answer each line with one."""
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, object] = {"id": question["id"]}
        if question["function"] not in FUNCTIONS:
            answer["missing"] = True
        else:
            try:
                answer["value"] = FUNCTIONS[question["function"]](**question["args"])
            except ValueError as error:
                answer["error"] = str(error)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
