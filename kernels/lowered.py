"""Kernels as LLVM's intermediate code, made once where loadlock is built: LLVM alone makes machine code of it where loadlock runs.

Of a kernel's compilation three quarters are numba's own Python: it reads bytecode, infers types, lowers. The outcome is the same on every
CPU of an architecture. ``kernels.lower`` keeps it in :data:`FOLDER`, a file a kernel and signature; here it is read, optimised for this
CPU and handed to numba as if numba had just compiled it, which then caches the machine code.

A file serves only where all agree that could change a byte of it (:func:`key`), and only whole (its SHA-256). Else numba compiles.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import platform
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from llvmlite import binding
from numba.core.compiler import compile_result

from kernels import helpers

FOLDER = Path(__file__).with_name("bitcode")
"""Where the files are: in the package."""

SETTINGS = ("BOUNDSCHECK", "DEBUGINFO_DEFAULT", "DEBUG_NRT", "NRT_STATS", "EXTEND_VARIABLE_LIFETIMES", "JIT_COVERAGE")
"""Settings of numba that change what it lowers."""


class Library(helpers.KernelLibrary):
    """The module of a kernel that was read."""


@cache
def sources_digest() -> str:
    """Return a digest of all kernel sources: an edited helper must never meet a stale cached caller."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def key() -> dict[str, Any]:
    """Return all that must be the same where a kernel is lowered and where it is used."""
    return {
        "format": 1,
        "sources": sources_digest(),
        "python": sysconfig.get_config_var("SOABI"),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
        "numpy": ".".join(np.__version__.split(".")[:2]),
        "machine": [platform.system(), platform.machine(), binding.get_process_triple()],
        "settings": {name: getattr(numba.config, name) for name in SETTINGS},
    }


def file_name(kernel: str, types: tuple[Any, ...]) -> str:
    """Return the name of the file of ``kernel`` (module and name) for arguments of these types."""
    return f"{kernel}-{hashlib.sha256(str(types).encode()).hexdigest()[:8]}"


def _head(name: str, body: bytes) -> dict[str, Any]:
    return key() | {"name": name, "sha256": hashlib.sha256(body).hexdigest()}


def packed(name: str, body: bytes) -> bytes:
    """Return the content of the file ``name``: a line with the key, the name and the digest of ``body``, then ``body``."""
    return json.dumps(_head(name, body)).encode() + b"\n" + body


def unpacked(name: str, content: bytes) -> bytes | None:
    """Return the body of the file ``name``; None if it was made of or for other things than this process has, or is damaged."""
    line, _, body = content.partition(b"\n")
    try:
        head = json.loads(line)
    except ValueError:
        return None
    return body if head == _head(name, body) else None


def load(kernel: str, types: tuple[Any, ...], context: Any) -> Any:
    """Return numba's compile result of ``kernel``, its code optimised for this CPU; None if there is no file that fits."""
    file = file_name(kernel, types)
    try:
        body = unpacked(file, (FOLDER / file).read_bytes())
    except OSError:
        return None
    if body is None:
        return None
    (name, bitcode), descriptor, environment, signature, objectmode, lifted, annotation, reload_init, environments = pickle.loads(body)
    context.refresh()
    for initialize in reload_init:
        initialize()
    library = Library(context.codegen(), name)
    library.enable_object_caching()
    library.add_llvm_module(binding.parse_bitcode(bitcode))
    entry = context.get_executable(library, descriptor, environment)  # optimises, makes machine code, loads it
    context.insert_user_function(entry, descriptor, [library])
    for each in environments:
        library.codegen.set_env(each.env_name, each)
    return compile_result(
        typing_context=context.typing_context,
        target_context=context,
        entry_point=entry,
        type_annotation=annotation,
        signature=signature,
        objectmode=objectmode,
        lifted=lifted,
        fndesc=descriptor,
        library=library,
        environment=environment,
        reload_init=reload_init,
        referenced_envs=environments,
    )
