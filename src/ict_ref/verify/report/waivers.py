"""Known failures that are accepted for a while: in TOML, each with a reason, and rejected once they no longer fail.

[[waiver]]
id = "teacher_ema_decay#3"     # or "teacher_ema_decay" for all of a function
reason = "ours divides by N - 1, see issue 12"
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ict_ref.utils.toml_file import read_toml
from ict_ref.verify.checks.result import Result
from ict_ref.verify.errors import VerifyError
from ict_ref.verify.vectors.load import VERSION, functions

CHECKS = ("trace", "step", "model", "training", "sampler", "data", "score")
"""The trace and the kinds of audits, whose results can be waived too."""
STALE = "waived, but it does not fail"
"""The message of a waiver that is not needed."""


class WaiverError(VerifyError):
    """The file of waivers cannot be used; the message is one line for the user."""


def load(path: Path, version: int = VERSION) -> dict[str, str]:
    """Return the reason of each waived failure.

    Raises: WaiverError if the file cannot be used.
    """
    try:
        book = read_toml(path)
    except OSError as error:
        raise WaiverError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise WaiverError(str(error)) from error
    if strange := sorted(book.keys() - {"waiver"}):
        raise WaiverError(f"{path}: expected only [[waiver]], got {strange[0]}")
    entries = book.get("waiver", [])
    found: dict[str, str] = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        name, reason = (
            (str(entry.get(key, "")).strip() for key in ("id", "reason")) if isinstance(entry, dict) else ("", "")
        )
        if not name or not reason:
            raise WaiverError(f"{path}: expected an id and a reason in every [[waiver]], got {entry}")
        if function(name) not in (*functions(version), *CHECKS):
            raise WaiverError(f"{path}: expected a function or a check such as pseudo_huber#3 as id, got {name}")
        found[name] = reason
    return found


def function(name: str) -> str:
    """Return the function that a waiver names."""
    return re.split("[#:]", name)[0]


def applied(results: Iterable[Result], waivers: dict[str, str]) -> list[Result]:
    """Return the results with waived failures marked, and a failure for each waiver that is not needed."""
    found, used = [], set()
    for result in results:
        name = next((name for name in (result.id, result.function) if name in waivers), None)
        is_finding = result.status == "fail" or (result.status == "note" and result.kind != "note")
        if name and is_finding:
            used.add(name)
        if name and result.status == "fail":
            found.append(replace(result, status="waived", message=f"{result.message} (waived: {waivers[name]})"))
        else:
            found.append(result)
    stale = [name for name in waivers if name not in used]
    return found + [
        Result(name, name.split("#")[0], "", "fail", message=f"{name}: {STALE}; remove the waiver") for name in stale
    ]
