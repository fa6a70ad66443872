"""Compiles a kernel's helpers to LLVM's intermediate code only: machine code is made once, for the kernel they end up in.

Numba optimises every jitted function, emits its machine code and wraps it for Python and for C, be it ever so small and only ever called
by other kernels. Here a helper stops after lowering; its module waits, unoptimised, until a kernel links it with all it calls. LLVM then
sees the kernel as one C++ file: each helper is optimised once, before it is inlined.

This uses numba's extension point (``pipeline_class``) and, behind it, three methods of its code library and one lowering pass that are no
public interface: :data:`FITS` names the release they were read from, and any other compiles helpers as numba does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.typed_passes import NativeLowering

FITS = numba.__version__.startswith("0.68.")
"""Whether this numba is the one whose internals are known."""


class _HelperLibrary(JITCodeLibrary):  # type: ignore[misc]  # numba comes without types
    """The module of one helper, as lowered."""

    def finalize(self) -> None:
        self._finalized = True

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def closure(self) -> dict[Any, None]:
        """Return this library and all that it calls, callers first: LLVM links only what is called by then."""
        found: dict[Any, None] = {self: None}
        for library in self._linking_libraries:
            found |= library.closure() if isinstance(library, _HelperLibrary) else {library: None}
        return found


class KernelLibrary(JITCodeLibrary):  # type: ignore[misc]
    """The module of a kernel, with its helpers linked in."""

    def add_linking_library(self, library: Any) -> None:
        """Link ``library`` and, if it is a helper's, all that it calls."""
        for each in library.closure() if isinstance(library, _HelperLibrary) else (library,):
            super().add_linking_library(each)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout


class KernelPipeline(Compiler):  # type: ignore[misc]
    """Compiles a kernel: wrapped for Python, not for C."""

    library: type[JITCodeLibrary] = KernelLibrary

    def define_pipelines(self) -> Any:
        """Return numba's passes, which will fill a library of ours."""
        state = self.state
        state.flags.no_cfunc_wrapper = True
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().define_pipelines()


@register_pass(mutates_CFG=True, analysis_only=False)
class _Publish(LoweringPass):  # type: ignore[misc]
    """Makes a lowered helper known to the functions that call it, as numba does once it has machine code."""

    _name = "publish_helper"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        entry = object()
        state.targetctx.insert_user_function(entry, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=entry)
        return True


class _HelperPipeline(KernelPipeline):
    """Compiles a helper."""

    library = _HelperLibrary

    def define_pipelines(self) -> Any:
        self.state.flags.no_cpython_wrapper = True
        self.state.flags.no_compile = True
        managers = super().define_pipelines()
        for manager in managers:
            manager.add_pass_after(_Publish, NativeLowering)
            manager.finalize()
        return managers


def helper(function: Callable[..., Any], as_kernel: Any, **options: Any) -> Any:
    """Return the dispatcher of a helper; ``as_kernel`` is the same function as a kernel, for tests that call it from Python."""
    dispatcher = numba.njit(pipeline_class=_HelperPipeline, **options)(function)
    # Only numba's type inference meets the overloads of a helper: the table for calls from Python stays empty, and each call asks.
    dispatcher.add_overload = lambda result: dispatcher.overloads.update({tuple(result.signature.args): result})
    dispatcher._compile_for_args = lambda *args, **named: as_kernel
    return dispatcher
