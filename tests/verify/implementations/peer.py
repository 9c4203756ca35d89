"""An example in Python that needs the standard library alone: `python -m ict_ref.verify exec "python peer.py"`.

`--deviation` makes it use EDM's c_skip, which is 1 at noise level 0, not at sigma_min.
"""

import json
import math
import sys
from itertools import pairwise
from typing import Any


def numbers(tensor: dict[str, Any]) -> list[float]:
    """Return a vector's tensor of one axis; NaN and infinity are words."""
    return [float(value) for value in tensor["tensor"]]


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
    return mapped(lambda s: 1 / (1 + ((level(s) - least) / data) ** 2), sigma["tensor"])


def c_noise(sigma: Any) -> Any:
    return mapped(lambda s: math.log(level(s)) / 4, sigma["tensor"])


def pseudo_huber_constant(dim: int) -> float:
    check(dim >= 1, "dim >= 1")
    return 0.00054 * math.sqrt(dim)


def pseudo_huber(x: Any, y: Any, c: Any) -> list[float]:
    c = number(c)
    check(0 < c < math.inf, "0 < c < infinity")
    check(shape(x["tensor"]) == shape(y["tensor"]), "x and y of one shape")
    squares = [
        math.fsum((a - b) ** 2 for a, b in zip(flat(one), flat(other), strict=True))
        for one, other in zip(x["tensor"], y["tensor"], strict=True)
    ]
    return [square / (math.sqrt(square + c * c) + c) for square in squares]


def uniform_weights(sigmas: Any) -> list[float]:
    levels = [level(sigma) for sigma in numbers(sigmas)]
    ascending = all(low < high for low, high in pairwise(levels))
    check(len(levels) >= 2 and ascending, "two levels or more, ascending")
    return [1.0] * (len(levels) - 1)


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
