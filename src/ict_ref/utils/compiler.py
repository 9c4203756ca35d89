"""The compiler that torch.compile calls, looked for before any work begins."""

import os
import shutil
import sys

from ict_ref.utils.command_line import expect


def refuse_without_compiler(device: str, option: str, without: str) -> None:
    """Reject a compiled network on a machine without the compiler of this type of device, "cpu" or "cuda".

    Source: torch/_inductor/config.py (cpp.cxx) for the CPU, and triton/runtime/build.py (CC) for GPUs.

    Raises:
        ValueError: The compiler is not found. The message names `option`, and `without`, which avoids it.
    """
    on_cpu = device == "cpu"
    variable = "CXX" if on_cpu else "CC"
    usual = (("clang++",) if sys.platform == "darwin" else ("g++",)) if on_cpu else ("gcc", "clang")
    named = os.environ.get(variable)
    tried = (named,) if named else usual
    found = any(shutil.which(one) is not None for one in tried)
    expected = f"a {'C++' if on_cpu else 'C'} compiler for torch.compile ({' or '.join(tried)})"
    expect(found, option, expected, f"none{f' by ${variable}' if named else ''}", f"Install one, or {without}.")
