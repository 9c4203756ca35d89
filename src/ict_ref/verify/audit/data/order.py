"""The order of images: shuffled, another one each epoch, each image once, and shards of several processes."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import Int64

from ict_ref.verify.audit.data.epochs import Epoch
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

SOURCE = "iCT, Appendix B; CM, Appendix C"
# A statistic of a right order exceeds this many of its standard deviations in less than one of 10^11 audits.
SLACK = 7.0
# Fewest images that an order can be seen of.
FEWEST = 16
# Shares of neighbours in a batch that stay together. With four batches or more a quarter does so by chance.
HALF, ALL = 0.6, 0.9
# Probability below which chance does not explain that the same images are left out.
CHANCE = 1e-5


def multiset(epochs: Iterable[Epoch]) -> Counter[int]:
    """Return how often each image was seen."""
    found: Counter[int] = Counter()
    for epoch in epochs:
        found.update(epoch.keys.tolist())
    return found


def are_seen_again(epochs: Sequence[Epoch]) -> bool:
    """Return whether images of the first epoch are seen again in later ones."""
    return len(epochs) > 1 and bool(np.isin(epochs[0].keys, np.concatenate([one.keys for one in epochs[1:]])).any())


def order(epochs: Sequence[Epoch], known: Epoch | None) -> Result:
    """Return whether images come in another random order in each epoch."""
    name = "data:order"
    first, second = epochs[:2]
    if len(first) < FEWEST or len(np.unique(first.keys)) < FEWEST:
        return not_checked(name, SOURCE, f"there are fewer than {FEWEST} different images")
    if any(np.array_equal(one.keys, other.keys) for one, other in pairwise(epochs)):
        if known is not None and np.array_equal(first.keys, known.keys[: len(first)]):
            return verdict(name, SOURCE, "images come in the order of their file", deviation="NotShuffled")
        text = "the order is the same in each epoch"
        return verdict(name, SOURCE, text, deviation="SameOrder")
    wrong, deviation = _partly_shuffled(first, second)
    if wrong is None and known is not None:
        wrong, deviation = _partly_shuffled(first, known)
    return verdict(name, SOURCE, wrong, deviation=deviation)


def _partly_shuffled(first: Epoch, second: Epoch) -> tuple[str | None, str | None]:
    """Return how much of an order is left in another one, with its known deviation."""
    here, there = _common(first, second)
    if len(here) < FEWEST:
        return None, None
    share, expected = _kept_together(first, second, here, there)
    text = f"{share:.0%} of neighbours in a batch are in one batch again in another epoch, should be {expected:.0%}"
    if share > ALL:
        return text, "FixedBatches"
    one, other = (np.argsort(np.argsort(places)) for places in (here, there))
    correlation = float(np.corrcoef(one, other)[0, 1])
    if abs(correlation) > SLACK / math.sqrt(len(here) - 1):
        wrong = f"the places of images in two orders have correlation {correlation:.2f}, should be 0"
        return wrong, "LocalShuffle"
    return (text, "FixedBatches") if share > HALF else (None, None)


def _common(first: Epoch, second: Epoch) -> tuple[Int64[np.ndarray, " _n"], Int64[np.ndarray, " _n"]]:
    """Return the places of images that are once in each of two epochs, in the order of the first."""
    places = {key: place for place, key in enumerate(second.keys.tolist())}
    once = {key for key, count in multiset([second]).items() if count == 1}
    once &= {key for key, count in multiset([first]).items() if count == 1}
    here = [place for place, key in enumerate(first.keys.tolist()) if key in once]
    there = [places[int(first.keys[place])] for place in here]
    return np.array(here, dtype=np.int64), np.array(there, dtype=np.int64)


def _kept_together(
    first: Epoch, second: Epoch, here: Int64[np.ndarray, " _n"], there: Int64[np.ndarray, " _n"]
) -> tuple[float, float]:
    """Return the share of neighbours in a batch that are in one batch again, and that of chance; 0 if few are seen."""
    same = first.batches[here[1:]] == first.batches[here[:-1]]
    expected = float(((second.sizes / len(second)) ** 2).sum())
    if len(second.sizes) < 4 or int(same.sum()) < FEWEST:
        return 0.0, expected
    return float((second.batches[there[1:]] == second.batches[there[:-1]])[same].mean()), expected


def replacement(epochs: Sequence[Epoch], known: Epoch | None, *, allowed: int, is_endless: bool) -> Result:
    """Return whether each image is seen once in an epoch; `allowed` images may be repeated to fill up shards."""
    name = "data:replacement"
    counts = [multiset([epoch]) for epoch in epochs]
    usual = multiset([known]) if known is not None else _usual(counts)
    again = [sum(max(0, count - max(usual.get(key, 1), 1)) for key, count in one.items()) for one in counts]
    repeated = again[0]
    if _has_mirrors(epochs[0]) and set(counts[0].values()) == {2}:
        return observation(name, "each image is seen twice in an epoch, once mirrored")
    if max(again) <= allowed:
        return verdict(name, SOURCE, None)
    share = repeated / len(epochs[0])
    text = f"{repeated} of {len(epochs[0])} images of an epoch were seen in it before"
    if is_endless and _are_even(counts, usual):
        return observation(name, f"{text}, but all are seen equally often")
    drawn = abs(share - math.exp(-1)) < max(0.06, 3 / math.sqrt(len(epochs[0])))
    return verdict(name, SOURCE, text, deviation="WithReplacement" if drawn else "RepeatedImages")


def _usual(counts: Sequence[Counter[int]]) -> Counter[int]:
    """Return how often each image is in the data: as often as in each epoch that has it."""
    keys = set().union(*counts)
    return Counter({key: min(one[key] for one in counts if key in one) for key in keys})


def _has_mirrors(epoch: Epoch) -> bool:
    pairs = Counter(zip(epoch.keys.tolist(), epoch.turns.tolist(), strict=True))
    return len(pairs) > 1.9 * len(set(epoch.keys.tolist()))


def _are_even(counts: Sequence[Counter[int]], usual: Counter[int]) -> bool:
    """Return whether the counts of images over all epochs differ by less than half of what chance makes."""
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    numbers = np.array([total[key] / max(usual[key], 1) for key in total])
    return float(numbers.var()) < 0.5 * float(numbers.mean())


def coverage(epochs: Sequence[Epoch], known: Epoch, *, sizes: Sequence[int], is_endless: bool) -> Result:
    """Return whether each known image is seen; a last batch that is incomplete may be dropped."""
    name = "data:coverage"
    everything, whole = set(known.keys.tolist()), len(known)
    missing = [everything - set(epoch.keys.tolist()) for epoch in epochs]
    foreign = {int(key) for epoch in epochs for key in epoch.keys} - everything
    if len(foreign) > len(everything) // 100:
        return not_checked(name, SOURCE, "images are cropped or changed, so they cannot be compared")
    never = set.intersection(*missing)
    per_process = max(sizes) * max(1, round(whole / max(sum(sizes), 1)))
    if not never or _is_chance(len(never), [len(one) for one in missing], whole):
        return verdict(name, SOURCE, None)
    if len(never) < max(sizes) and not is_endless and len(never) < per_process:
        text = f"the same {len(never)} images are left out in each epoch, fewer than a batch"
        return verdict(name, SOURCE, text, deviation="AlwaysDropped")
    return verdict(name, SOURCE, f"{len(never)} of {whole} images are never seen", deviation="NeverSeen")


def _is_chance(never: int, missing: Sequence[int], whole: int) -> bool:
    """Return whether independent choices of the images that are left out may have these in common."""
    expected = whole * math.prod(one / whole for one in missing)
    return never <= expected + SLACK * math.sqrt(expected) or (expected > CHANCE and never == 1)


def last_batch(epoch: Epoch, is_cut: bool) -> Result:
    """Return the note about the number of images and the last batch."""
    sizes = epoch.sizes.tolist()
    end = "more follow" if is_cut else f"the last batch has {sizes[-1]}" if sizes[-1] != sizes[0] else "all are full"
    return observation("data:batches", f"{len(epoch)} images in {len(sizes)} batches of {sizes[0]}; {end}")


def shards(of_ranks: Sequence[Epoch], expected: str) -> Result:
    """Return whether the processes have disjoint parts of the data, or all of them the same batches."""
    name, count = "data:shards", len(of_ranks)
    first = of_ranks[0]
    if all(np.array_equal(first.keys, one.keys) for one in of_ranks[1:]):
        wrong = None if expected == "same" else f"all {count} processes have the same images in the same order"
        return verdict(name, SOURCE, wrong, deviation="SameShards")
    sets = [set(one.keys.tolist()) for one in of_ranks]
    common = max(len(one & other) for one, other in combinations(sets, 2))
    if expected == "same":
        return verdict(name, SOURCE, "the processes have different images, should be the same", deviation="OtherShards")
    duplicates = sum(map(len, of_ranks)) - sum(map(len, sets))
    if common <= count + duplicates:
        return verdict(name, SOURCE, None)
    text = f"two processes have {common} of {len(first)} images in common, should be none"
    return verdict(name, SOURCE, text, deviation="OverlappingShards")
