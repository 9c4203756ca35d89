"""Loading of programs that users provide: TorchScript and torch.export, with a check of their operations.

Both are programs. TorchScript has operations that write files, map files into memory and print.
Before the first call every operation is compared with a list. A file whose SHA-256 the user trusts is not checked.
"""

import hashlib
import io
import operator
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from os import environ
from pathlib import Path
from typing import Any

import torch

from ict_ref.utils.inflation import refuse_inflated
from ict_ref.utils.printable import printable
from ict_ref.utils.regular_file import read_regular
from ict_ref.utils.script_tensors import refuse_declared_tensors
from ict_ref.utils.zip_checksums import refuse_flipped

PUBLISHED = {"inception-2015-12-05.pt": "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"}
"""SHA-256 of published files; k_diffusion/evaluation.py of crowsonkb/k-diffusion pins the download of Inception."""
DIGEST = re.compile(r"[0-9a-f]{64}")
ADVICE = "Only if you trust this program, give --trust (in training --machine.trust)"

PRIM = """
    Constant GetAttr SetAttr CreateObject If Loop ListConstruct ListUnpack TupleConstruct TupleIndex TupleSlice
    TupleUnpack DictConstruct DictIndex NumToTensor RaiseException Uninitialized Enter Exit ModuleContainerIndex
    StringIndex ConstantChunk EnumName EnumValue abs data device dtype index is_cpu is_cuda is_meta is_mps is_nested
    is_quantized is_sparse isinstance itemsize layout max min nbytes name rangelist requires_grad shape tolist type
    unchecked_cast unchecked_unwrap_optional
"""
"""Control flow, constants, containers, attributes of the module itself, and properties of tensors."""
REFUSED = {
    "files, the terminal, other threads and streams": "save load from_file print wait record_stream",
    "memory of another tensor or beyond a tensor's end": "set_ set_data set_source as_strided as_strided_ "
    "as_strided_copy as_strided_scatter resize resize_ resize_as_ resize_as_sparse_ resize_storage_bytes_",
    "global state": "manual_seed seed initial_seed set_grad_enabled backward retain_grad",
}
"""Operations that do more than compute, by what they touch; the other public ones of aten compute."""
PRIVATE = re.compile(
    r"__\w+__|_upsample_\w+|_convolution|_set_item|_unwrap_optional|_shape_as_tensor|_assert\w*"
    r"|_native_multi_head_attention|_transformer_\w+"
)
"""Private operations of public modules; others may lack the checks of their public forms."""
HIGHER_ORDER = frozenset({"wrap_with_set_grad_enabled", "wrap_with_autocast", "cond"})

_trusted: set[str] = set()
_shown: set[str] = set()


def trust(digests: Iterable[str], option: str = "--trust") -> None:
    """Load the programs with these SHA-256 in this process without a check of their operations.

    Raises:
        ValueError: a digest is not 64 hexadecimal digits in lower case.
    """
    for digest in digests:
        if not DIGEST.fullmatch(digest):
            raise ValueError(
                f"{option}: expected a SHA-256, 64 digits of 0-9 and a-f, got {digest}. Run sha256sum FILE."
            )
        _trusted.add(digest)


def load_torchscript(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """Return the module in a TorchScript file, in evaluation mode with frozen parameters; None for any other file.

    A TorchScript file is a program, and calling the module runs it. A pickle is not opened. The SHA-256 is printed.

    Raises:
        ValueError: the program has an operation that may do more than compute, it runs code while it is loaded, a file
            with a published SHA-256 has another one, or its content does not have its own checksums.
        OSError: the file cannot be read.
    """
    try:
        content = read_regular(path)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(content).hexdigest()
    trusted = digest in _trusted
    if not _is_program(content):
        return None
    if not trusted:
        _refuse_unpublished(path, digest)
        _refuse_untrusted(path, digest, content)
    try:
        loaded: Any = torch.jit.load(io.BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
    except Exception:  # another or damaged file may raise any exception in torch
        return None
    module = loaded.eval()
    if not trusted:
        refuse_operations(path, digest, _operations(module))
    show(path, digest, "TorchScript")
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module


def refuse_operations(path: Path | str, digest: str, names: Iterable[str]) -> None:
    """Reject a program with operations that are not known to compute only.

    Raises:
        ValueError: there is such an operation. The message has its name and the file's SHA-256.
    """
    if digest in _trusted:
        return
    unknown = sorted(name for name in set(names) if not _computes(name))
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        got = f"the operation {', '.join(unknown[:3])}{more}"
        raise ValueError(f"{path}: expected a program that only computes, got {got}. {ADVICE} {digest}")


def show(path: Path | str, digest: str, kind: str) -> None:
    """Print once, in the first process, that a file is a program, with its SHA-256."""
    if digest not in _shown and environ.get("RANK", "0") == "0":
        _shown.add(digest)
        known = ", as published" if digest in PUBLISHED.values() else ""
        print(f"{printable(path)} is a program ({kind}), SHA-256 {digest}{known}", file=sys.stderr)


def exported_operations(graph_module: torch.fx.GraphModule) -> Iterator[str]:
    """Yield the operation of each call in an exported program and in the graphs within it."""
    for part in graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            if node.op in ("call_function", "call_method"):
                yield _exported_name(node.target)


def _exported_name(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target._schema.name)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"higher_order::{target.__name__}"
    plain = target in vars(operator).values() or getattr(target, "__module__", "") == "math"
    symbolic = str(getattr(target, "__name__", target)).startswith("sym_")
    return "aten::add" if plain or symbolic else f"python::{target}"


def _is_program(content: bytes) -> bool:
    """Return whether an archive has a program, as the reader of torch.jit.load sees its members."""
    if not content.startswith(b"PK"):
        return False
    try:
        names = torch._C.PyTorchFileReader(io.BytesIO(content)).get_all_records()
    except (RuntimeError, ValueError):  # a name that is not UTF-8 is a ValueError
        return False
    return any(name.startswith("code/") for name in names) and "constants.pkl" in names and "model.json" not in names


def _code(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive with a program, except tensors and debug information.

    Raises:
        RuntimeError: a member is damaged.
    """
    reader = torch._C.PyTorchFileReader(io.BytesIO(content))
    read = (name for name in reader.get_all_records() if not name.startswith("data/"))
    return {name: reader.get_record(name) for name in read if not name.endswith(".debug_pkl")}


def _refuse_unpublished(path: Path | str, digest: str) -> None:
    expected = PUBLISHED.get(Path(path).name, digest)
    if digest != expected:
        raise ValueError(
            f"{path}: expected the published file with SHA-256 {expected}, got {digest}. Download it again. "
            f"{ADVICE} {digest}"
        )


def _refuse_untrusted(path: Path | str, digest: str, content: bytes) -> None:
    """Reject a program that is damaged, takes much more memory than its file, or runs while it is loaded."""
    try:
        refuse_inflated(io.BytesIO(content))
        refuse_flipped(io.BytesIO(content))
        code = _code(content)
        refuse_declared_tensors(content, code)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from None
    _refuse_code_at_load(path, digest, code)


def _refuse_code_at_load(path: Path | str, digest: str, code: Mapping[str, bytes]) -> None:
    """Reject a program whose own methods run while it is loaded, or that holds objects of C++ classes."""
    for name, content in code.items():
        for word in (b"__setstate__", b"torch.classes."):
            if word in content:
                got = f"{word.decode()} in {name}"
                raise ValueError(
                    f"{path}: expected a program that runs only when it is called, got {got}. {ADVICE} {digest}"
                )


def _operations(module: Any) -> Iterator[str]:
    """Yield the operations of all methods of a module and its submodules, with the functions that they call."""
    for part in module.modules():
        if part._forward_hooks or part._forward_pre_hooks:
            yield "hook"
        for name in part._c._method_names():
            yield from _of_block(part._c._get_method(name).inlined_graph)


def _of_block(block: Any) -> Iterator[str]:
    for node in block.nodes():
        kind = str(node.kind())
        plain = kind != "aten::warn" or _is_plain_text(next(iter(node.inputs())).node())
        yield kind if plain else "aten::warn of a computed text"
        for inner in node.blocks():
            yield from _of_block(inner)


def _is_plain_text(node: Any) -> bool:
    """Return whether a warning has a constant text without control characters, perhaps with numbers in it."""
    if node.kind() == "aten::format":
        values = list(node.inputs())
        return all("str" not in str(value.type()) or _is_plain_text(value.node()) for value in values)
    return bool(node.kind() == "prim::Constant" and node.hasAttribute("value") and node.s("value").isprintable())


def _computes(name: str) -> bool:
    """Return whether an operation is known to compute only."""
    space, _, operation = name.partition("::")
    if space == "prim":
        return operation in PRIM.split()
    if space == "higher_order":
        return operation in HIGHER_ORDER
    private = operation.startswith("_") and not PRIVATE.fullmatch(operation)
    refused = operation in " ".join(REFUSED.values()).split()
    return space == "aten" and not refused and not private and operation.isidentifier()
