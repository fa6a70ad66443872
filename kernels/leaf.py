"""The jit options of kernels that allocate nothing.

Without numba's run time for memory, no reference counts are kept on arrays that travel from kernel to helper. They are atomic
additions and cost more than a short message's decoding: without them the decoder is twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernels.jit import compiled


def leaf(function: Callable[..., Any]) -> Any:
    """Compile as ``kernels.jit.kernel`` does, for a function that creates no array."""
    return compiled(function, _nrt=False)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile as ``leaf`` does and let LLVM put the body in place of each call: passing a dozen arrays costs more than a short body."""
    return compiled(function, _nrt=False, forceinline=True)
