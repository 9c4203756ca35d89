"""The flags of vectors: what kind of bug a vector finds, and whether its arguments are settings of the paper."""

import math
import re
from collections.abc import Iterator
from typing import Any

from tools.vectors.arrays import Array
from tools.vectors.case import Case
from tools.vectors.generated import Uniform

# Flag: bug type, description, effect of the bug.
NOTES: dict[str, tuple[str, str, str]] = {
    "Elsewhere": (
        "value outside the paper's settings",
        "The arguments are not settings of the paper: another rho, sigma_data or s0, or a level out of range.",
        "Runs with the paper's settings are not affected. Runs with other settings get a wrong value.",
    ),
    "Refusal": (
        "missing check",
        "The arguments are outside the domain of the function, and an error is expected.",
        "A mistake of the caller stays unnoticed, and training or sampling continues with a meaningless number.",
    ),
    "NaN": (
        "missing check",
        "An argument is NaN.",
        "The NaN spreads to the loss and to the weights, far from its cause.",
    ),
    "Infinity": (
        "missing check",
        "An argument is infinite.",
        "The value is infinite, NaN or a plausible constant.",
    ),
    "Sign": (
        "missing check",
        "An argument is negative where only positive values have a meaning.",
        "Squares and even powers hide the sign, and the value looks plausible.",
    ),
    "Zero": (
        "missing check",
        "An argument is zero where only positive values have a meaning.",
        "A division by zero gives an infinity, or the function returns a degenerate value.",
    ),
    "Shape": (
        "missing check",
        "The shapes or lengths of two arguments do not fit, or an argument is empty.",
        "Broadcasting combines every example with every other one, and the loss looks plausible.",
    ),
    "Range": (
        "missing check",
        "An argument is outside its range, or arguments are in the wrong order.",
        "The value belongs to another noise level, step or probability.",
    ),
    "Type": (
        "missing check",
        "An argument has the wrong type.",
        "A fraction is cut off, or a mask is read as an index.",
    ),
    "NoEventAxes": (
        "unsupported shape",
        "Examples are numbers without axes: the shape is [batch].",
        "Code for images alone raises an error or reduces over the batch. Training on images is not affected.",
    ),
    "NotAnImage": (
        "unsupported shape",
        "Examples are not of the shape channels x height x width.",
        "Code for images alone raises an error or broadcasts wrongly. Training on images is not affected.",
    ),
    "Large": (
        "error at realistic size",
        "Arguments or the value have the size of a training step: they are generated from a seed and summarised.",
        "The code is right for a few numbers and wrong for the sizes of training, or in float32 sums.",
    ),
    "Cancellation": (
        "loss of digits",
        "The expression as printed subtracts nearly equal numbers.",
        "The value loses some or all of its digits. The difference is too small to matter in training.",
    ),
}  # fmt: skip
REFUSALS = ("NaN", "Infinity", "Sign", "Zero", "Shape", "Range", "Type")

PAPER = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "rho": 7.0,
    "sigma_data": 0.5,
    "p_mean": -1.1,
    "p_std": 2.0,
    "max_period": 10000.0,
}
LEVELS = ("sigma", "sigmas", "sigma_hi", "sigma_lo")
EXAMPLES = ("x", "y", "z", "x_hi", "z1", "z2", "reference")
# Numbers of levels (s0, s1) of Table 1, CIFAR-10 and ImageNet, and those of the curriculum's section.
STAGES = ((10, 1280), (2, 150), (2, 200))
FEW_STEPS = 1000
HUBER_CONSTANTS = (0.0005, 0.3)  # images of 1 to 300 000 numbers

# The first pattern in a comment decides. Comments are tested: each refusal has exactly one kind.
KINDS = (
    ("Type", r"not of truth values"),
    ("Range", r"K' = |not an interval|theta- = theta|no candidate|k-th neighbour|too few|opposite|at the end"),
    ("Shape", r"different|for two|another shape|not for N - 1|^no |only: N < 2|no level|no pair|broadcasting"),
    ("Zero", r"= 0\b|\bis 0\b|\bzero\b"),
    ("Sign", r"< 0\b|negative|= -\d"),
    ("Range", r""),
)


def numbers(argument: Any) -> Iterator[float]:
    """All numbers of an argument."""
    if isinstance(argument, Array):
        yield from (float(value) for value in argument)
    elif isinstance(argument, tuple):
        for part in argument:
            yield from numbers(part)
    elif isinstance(argument, float | int):
        yield float(argument)


def refusal_kind(case: Case) -> str:
    """The finer flag of a call that must be refused."""
    found = [number for argument in case.arguments.values() for number in numbers(argument)]
    if any(map(math.isnan, found)):
        return "NaN"
    if any(map(math.isinf, found)):
        return "Infinity"
    return next(kind for kind, pattern in KINDS if re.search(pattern, case.comment))


def is_elsewhere(function: str, arguments: dict[str, Any]) -> bool:
    """Whether arguments are other than those of the paper's runs."""
    if any(arguments.get(name, value) != value for name, value in PAPER.items()):
        return True
    levels = [number for name in LEVELS for number in numbers(arguments.get(name))]
    levels += [math.exp(min(number, 700.0)) for number in numbers(arguments.get("log_sigma"))]
    if any(not PAPER["sigma_min"] <= level <= PAPER["sigma_max"] for level in levels):
        return True
    if function == "teacher_ema_decay":
        return (arguments["s0"], arguments["mu0"]) not in ((2, 0.9), (2, 0.95))
    if "total_steps" in arguments:
        usual = (2, 150) if function == "sqrt_curriculum" else (10, 1280)
        stages = arguments.get("s0", usual[0]), arguments.get("s1", usual[1])
        return stages not in STAGES or arguments["total_steps"] < FEW_STEPS
    low, high = HUBER_CONSTANTS
    return function == "pseudo_huber" and not low <= arguments["c"] <= high


def shapes_of_examples(case: Case) -> list[int]:
    """The number of axes of each batch of examples among the arguments."""
    batches = {name: case.arguments[name] for name in EXAMPLES if name in case.arguments}
    axes = [len(batch.shape) for batch in batches.values() if isinstance(batch, Array | Uniform)]
    noises = case.arguments.get("noises")
    return [*axes, *([len(noises.shape) - 1] if isinstance(noises, Array) else [])]


def flags_of(function: str, case: Case) -> list[str]:
    """The flags of a vector, in the order of NOTES."""
    found = set(case.marks)
    if case.result == "invalid":
        found |= {"Refusal", refusal_kind(case)}
    elif is_elsewhere(function, case.arguments):
        found.add("Elsewhere")
    axes = shapes_of_examples(case)
    if 1 in axes:
        found.add("NoEventAxes")
    if any(count != 4 for count in axes):
        found.add("NotAnImage")
    if case.is_summary:
        found.add("Large")
    return [flag for flag in NOTES if flag in found]
