"""Packages that only some commands need: which are missing, and how to install them."""

import re
from functools import cache
from importlib import metadata

DISTRIBUTION = "ict_ref"
# Modules whose package has another name.
NAMES = {"PIL": "pillow", "sklearn": "scikit-learn"}
# Packages without an extra, because their own requirements may not fit those of others.
WITHOUT_EXTRA = {"mlflow": "mlflow>=3.17", "wandb": "wandb>=0.31"}


@cache
def requirements() -> dict[str, tuple[str, str]]:
    """Return the requirement and the extra of each package that this one needs ("" for its base), from its metadata.

    A source tree that is not installed has no metadata, and nothing is returned.
    """
    found: dict[str, tuple[str, str]] = {}
    try:
        lines = metadata.requires(DISTRIBUTION) or ()
    except metadata.PackageNotFoundError:
        return {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        name = re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra is None or extra.group(1) != "dev":  # developers have them all
            found[name] = (requirement.strip().replace(" ", ""), extra.group(1) if extra else "")
    return found


def how_to_install(error: ModuleNotFoundError) -> str | None:
    """Return one line on how to install the missing package; None if this one does not need it.

    The line names the package itself, so that it helps wherever this one was installed from.
    """
    module = (error.name or "").partition(".")[0]
    name = NAMES.get(module, module)
    known = requirements() | {name: (requirement, "") for name, requirement in WITHOUT_EXTRA.items()}
    if name not in known:
        return None
    requirement, extra = known[name]
    group = f" (one of the extra {extra!r})" if extra else ""
    return f"expected the package {name}{group}, got an environment without it. Run pip install '{requirement}'."
