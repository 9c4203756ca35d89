"""Objects of the user's own code, named as `module:callable`."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

NAME = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")


def is_callable_name(name: str) -> bool:
    """Return whether a text has the form `module:callable`.

    >>> is_callable_name("my_module:build"), is_callable_name("runs/digits")
    (True, False)
    """
    return NAME.fullmatch(name) is not None


def named_callable(name: str, option: str) -> tuple[Any, Path | None]:
    """Import a module, which may lie in the working directory; return its callable and the module's file, if any.

    Importing a module executes it.

    >>> named_callable("json:dumps", "--network")[0]([1])
    '[1]'

    Raises:
        ValueError: The name has another form, the import fails, or the module has no such callable. The message names
            `option` and the error of the import.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{option}: expected module:callable, got {name}")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last: a file there does not replace an installed module
    try:
        value: Any = importlib.import_module(found[1])
        for part in found[2].split("."):
            value = getattr(value, part)
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        advice = "Run the command in its folder, or set PYTHONPATH."
        raise ValueError(f"{option}: expected {name} as module:callable, got {got}. {advice}") from error
    if not callable(value):
        raise ValueError(f"{option}: expected a callable, got {name}, which is {type(value).__name__}")
    file = getattr(sys.modules[found[1]], "__file__", None)
    return value, None if file is None else Path(file)
