"""The nearest of known names, for messages about an unknown one."""

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known name that begins with a word or is most like it, whatever the case of letters, or None.

    >>> nearest("CIFAR10", ["digits", "cifar10"])
    'cifar10'
    >>> nearest("exp", ["sqrt", "exponential"])
    'exponential'
    """
    by_lower = {name.lower(): name for name in known}
    longer = [name for name in by_lower if len(word) > 1 and name.startswith(word.lower())]
    if longer:
        return by_lower[min(longer, key=len)]
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[near[0]] if near else None


def hint(word: str, known: Iterable[str]) -> str:
    """Return the end of a message that names the nearest of the known names; "" if none is near.

    >>> hint("--msk", ["--mask", "--patch"])
    '; perhaps you meant --mask'
    """
    near = nearest(word, known)
    return "" if near is None else f"; perhaps you meant {near}"
