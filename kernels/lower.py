"""Lowers every kernel to LLVM's intermediate code: ``python -m kernels.lower [FOLDER]``, where loadlock is built.

Numba's own functions, which kernels call, come optimised into it. So that this holds on every CPU of this architecture, it is done
for LLVM's generic one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numba
from llvmlite import binding
from numba.core.compiler_lock import global_compiler_lock
from numba.core.serialize import dumps

from kernels import helpers, lowered
from kernels.jit import KERNELS
from kernels.warm import SIGNATURES, types_of

GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
WRITE = """
import gc, pathlib, sys
gc.disable()
from kernels.lower import write
write(pathlib.Path(sys.argv[1]))
"""


class _LoweredLibrary(helpers.KernelLibrary):
    """The module of a kernel with all that it calls, not optimised."""

    def _optimize_final_module(self) -> None:
        tidy = binding.create_new_module_pass_manager()
        tidy.add_sroa_pass()
        tidy.add_dead_code_elimination_pass()
        tidy.add_global_dead_code_eliminate_pass()
        tidy.add_strip_dead_prototype_pass()
        tidy.run(self._final_module, binding.create_pass_builder(self._codegen._tm, binding.create_pipeline_tuning_options()))

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def serialize_using_object_code(self) -> tuple[str, bytes]:
        """Return what numba's cache keeps of a library: here its intermediate code."""
        assert not self.has_dynamic_globals, f"{self.name} holds an address of this process"
        return self.name, self._final_module.as_bitcode()


class _LoweredPipeline(helpers.KernelPipeline):
    """Compiles a kernel and stops after lowering."""

    library = _LoweredLibrary

    def define_pipelines(self) -> Any:
        self.state.flags.no_compile = True
        return super().define_pipelines()


@global_compiler_lock  # type: ignore[untyped-decorator]
def lower(kernel: str, types: tuple[Any, ...]) -> bytes:
    """Return the content of the file of ``kernel`` for arguments of these types."""
    of = KERNELS[kernel]
    compiler = type(of._compiler)(of.py_func, of.targetdescr, of.targetoptions, {}, _LoweredPipeline)
    result = compiler.compile(types, None)
    result.library.finalize()
    return lowered.packed(lowered.file_name(kernel, types), dumps(result._reduce()))


def write(folder: Path) -> None:
    """Write the files of all kernels into ``folder``, those that fit already excepted, and remove all others."""
    folder.mkdir(parents=True, exist_ok=True)
    files = set()
    for name, signature in SIGNATURES.items():
        import_module(f"kernels.{name.partition('.')[0]}")
        kernel, types = name.partition(" ")[0], types_of(signature)
        path = folder / lowered.file_name(kernel, types)
        files.add(path)
        if path.exists() and lowered.unpacked(path.name, path.read_bytes()) is not None:
            continue
        new = path.with_name(f".{path.name}.{os.getpid()}")  # gets its name when it is whole
        new.write_bytes(lower(kernel, types))
        new.replace(path)
    for path in folder.glob("[!.]*"):
        if path not in files:
            path.unlink()


def main() -> int:
    """Write into the folder named, else into the package, in a process whose numba knows no other setting than GENERIC."""
    if not helpers.FITS:
        print(f"kernels.lower: numba {numba.__version__} is not the one that is known here; kernels will be compiled from source")
        return 0
    folder = sys.argv[1] if len(sys.argv) > 1 else str(lowered.FOLDER)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")} | GENERIC
    return subprocess.run([sys.executable, "-c", WRITE, folder], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
