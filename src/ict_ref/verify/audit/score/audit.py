"""An audit of the code of a score: FID, KID, precision and recall, on sets whose right score is known.

The features are given, or come from a small extractor that the audit gives and that records them. So the right score is
known to the last digit, and that of known deviations too.
"""

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.verify.audit.options import ScoreOptions
from ict_ref.verify.audit.score import values
from ict_ref.verify.audit.score.calls import WIDTH, Caller, Seen, sets
from ict_ref.verify.audit.score.pixels import pixels
from ict_ref.verify.audit.score.values import Features, Value
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result
from ict_ref.verify.target.load import TargetError

SOURCES = {
    "fid": "iCT, Section 4; Heusel et al. 2017, Eq. (6)",
    "kid": "Binkowski et al. 2018, Section 4",
    "precision-recall": "Kynkaanniemi et al. 2019, Eqs. (1) and (2)",
}
# Sizes of the generated and of the real set. Both are no multiples of batches.
COUNTS, OTHERS, FEW = (70, 101), (83, 59), (4, 90)
# Relative errors of a right value in float64, of one in float32, and of known deviations.
RIGHT, FLOAT32, NAMED = 1e-6, 2e-3, 1e-4
NOTES = {"TimesThousand": "the score is 1000 times the kernel distance, as it is often printed"}


def audit(target: Callable[..., object], options: ScoreOptions) -> Iterator[Result]:
    """Yield the findings about the code of a score.

    Raises:
        TargetError: The target cannot be called in its form, or does not return numbers.
    """
    caller = Caller(target, options)
    first, second = (sets(options, caller.form, counts, seed) for seed, counts in enumerate((COUNTS, OTHERS)))
    one, other = caller(*first), caller(*second)
    which = "first" if caller.real_first else "second"
    yield observation("score:form", f"it takes {caller.form}; the {which} set is real")
    images = _are_complete(one, other)
    yield images
    yield from pixels(one, first[0], first[1], options.pixels, caller.real_first)
    yield _type(one)
    if caller(*first).value != one.value:
        text = "the score of the same sets has two values"
        yield verdict("score:deterministic", SOURCES[options.metric], text, kind="type")
    yield _value(one, other, caller)
    if options.metric == "fid" and images.status == "pass":
        yield _singular(caller)


def _are_complete(*calls: Seen) -> Result:
    """Return whether the extractor got each image once."""
    name, source, wrong = "score:images", SOURCES["fid"], None
    for seen, counts in zip(calls, (COUNTS, OTHERS), strict=True):
        if seen.extractor is not None and seen.sizes != counts:
            got, given = (f"{of[0]} and {of[1]}" for of in (seen.sizes, counts))
            wrong = wrong or f"the extractor gets {got} of {given} images"
    return verdict(name, source, wrong, deviation="DroppedImages")


def _type(seen: Seen) -> Result:
    wrong = "the score is a complex number: take the real part" if seen.is_complex else None
    return verdict("score:type", SOURCES["fid"], wrong, kind="type")


def _value(one: Seen, other: Seen, caller: Caller) -> Result:
    """Return whether the scores of two pairs of sets are right, or those of a known deviation."""
    name, source = "score:value", SOURCES[caller.options.metric]
    if not all(math.isfinite(number) for seen in (one, other) for number in seen.value):
        return verdict(name, source, f"the score is {_shown(one.value)} and {_shown(other.value)}, should be finite")
    table = _table(one.a, one.b, caller), _table(other.a, other.b, caller)
    error = max(_distance(seen.value, of[""]) for seen, of in zip((one, other), table, strict=True))
    if error <= RIGHT:
        return verdict(name, source, None)
    text = f"the score is {_shown(one.value)}, should be {_shown(table[0][''])}"
    names = [key for key in table[0] if key and _explains(key, table, (one.value, other.value))]
    named = min(names, key=lambda key: _distance(one.value, table[0][key]), default=None)
    if named is not None and _distance(one.value, table[0][named]) < error / 3:
        if named in NOTES:
            return observation(name, NOTES[named])
        return verdict(name, source, text, deviation=named.strip())
    if error <= FLOAT32:
        return verdict(name, source, f"{text}: a relative error of {error:.1g}", kind="precision")
    if _distance(one.value, table[0][""]) <= FLOAT32 and _is_stale(one, other, caller):
        text = f"the second call gives {_shown(other.value)}, should be {_shown(table[1][''])}"
        return verdict(name, source, text, deviation="StaleStatistics")
    ratios = {round(got / right, 4) for seen, of in zip((one, other), table, strict=True)
              for got, right in zip(seen.value, of[""], strict=True) if right}  # fmt: skip
    factor = f", {ratios.pop():g} times the right value" if len(ratios) == 1 else ""
    return verdict(name, source, text + factor)


def _table(a: Features, b: Features, caller: Caller) -> dict[str, Value]:
    if caller.options.metric == "kid":
        return values.kid(a, b)
    if caller.options.metric == "precision-recall":
        return values.precision_recall(a, b, caller.options.k)
    return values.of_moments(a, b) if caller.form == "moments" else values.fid(a, b)


def _explains(key: str, tables: tuple[dict[str, Value], ...], got: tuple[Value, ...]) -> bool:
    return all(_distance(value, table[key]) <= NAMED for value, table in zip(got, tables, strict=True))


def _distance(got: Value, right: Value) -> float:
    """Return the largest relative error."""
    return max(abs(x - y) / max(abs(y), 1e-6) for x, y in zip(got, right, strict=True))


def _shown(value: Value) -> str:
    return " and ".join(f"{number:.6g}" for number in value)


def _is_stale(one: Seen, other: Seen, caller: Caller) -> bool:
    """Return whether the second score has one set of the first call."""
    mixed = (_table(one.a, other.b, caller)[""], _table(other.a, one.b, caller)[""])
    return any(_distance(other.value, value) <= FLOAT32 for value in mixed)


def _singular(caller: Caller) -> Result:
    """Return whether the score of fewer images than features is finite, real and right."""
    name, source = "score:singular", SOURCES["fid"]
    pair: list[Shaped[Tensor, ...]] = sets(caller.options, caller.form, FEW, 2)
    if caller.form != "images":
        # A feature that is constant in both sets, too.
        pair = [torch.cat([one[:, : WIDTH - 1], torch.full((len(one), 1), 0.5)], 1) for one in pair]
    try:
        seen = caller(*pair)
    except TargetError as error:
        return verdict(name, source, f"with {FEW[0]} images: {error}", deviation="SingularNan")
    if not math.isfinite(seen.value[0]):
        text = f"the score of {FEW[0]} images is {seen.value[0]}, should be finite: the covariance is singular"
        return verdict(name, source, text, deviation="SingularNan")
    table = _table(seen.a, seen.b, caller)
    if any(_distance(seen.value, value) <= 0.02 for value in table.values()):
        return verdict(name, source, None)
    return not_checked(name, source, "the score of a singular covariance follows from other findings, or from eps")
