"""The implementation under test: any module or object with some of the names of `ict_ref.formulas`."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ict_ref.verify.errors import VerifyError


class TargetError(VerifyError):
    """The target cannot be loaded; the message is one line for the user."""


@dataclass(frozen=True)
class Target:
    """A namespace and its origin."""

    text: str
    namespace: object
    file: str
    version: str


def load(text: str) -> Target:
    """Return the object that `package.module`, `package.module:attribute` or `path/to/file.py[:attribute]` names.

    The working directory is searched first, as `python -m` does.

    Raises: TargetError if it cannot be imported or does not exist.
    """
    place, _, attribute = text.partition(":")
    if not place:
        raise TargetError(f"TARGET: expected a module or a file, got {text!r}. An example is my_package.my_module.")
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else _by_name(place)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        raise TargetError(f"{place} cannot be imported: {type(error).__name__}: {_one_line(error)}") from error
    namespace: object = module
    for name in filter(None, attribute.split(".")):
        if not hasattr(namespace, name):
            raise TargetError(f"{place} does not have {attribute}; it has {_some(namespace)}")
        namespace = getattr(namespace, name)
    package = sys.modules.get(place.split(".")[0])
    version = str(getattr(package, "__version__", getattr(module, "__version__", "unknown")))
    return Target(text, namespace, str(getattr(module, "__file__", "unknown")), version)


def _by_name(name: str) -> object:
    with _searched_first(str(Path.cwd())):
        return importlib.import_module(name)


def _from_file(path: Path) -> object:
    if not path.is_file():
        raise TargetError(f"{path} is not a file; give a module, or the path of a Python file")
    name = f"target_{path.stem}" if _is_another_module(path) else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Modules in the same folder can be imported, as if the file were run.
    with _searched_first(str(path.resolve().parent)):
        spec.loader.exec_module(module)
    return module


def _is_another_module(path: Path) -> bool:
    """Return whether a module of the same name exists elsewhere, such as queue for queue.py, which torch imports."""
    try:
        spec = importlib.util.find_spec(path.stem)
    except ValueError:  # the module is running, as __main__
        return True
    return spec is not None and spec.origin != str(path.resolve())


@contextmanager
def _searched_first(folder: str) -> Iterator[None]:
    """Search a folder for modules first while the block loads the target, and last from then on.

    Later imports, such as Hypothesis, then find the standard library's modules and not others of the same name.
    """
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def _some(namespace: object) -> str:
    names = [name for name in dir(namespace) if not name.startswith("_")]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
