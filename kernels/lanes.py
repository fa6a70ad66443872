"""Sixteen float64 lanes as one value inside a kernel: sums that a machine adds side by side, with the same bits on every machine.

A sum over lanes is one fixed order of strict IEEE additions, written down as vector instructions: the compiler may cut the sixteen
lanes into registers of any width, but never reassociates, contracts or drops a NaN. Sample ``i`` of a window goes to lane ``i % 16``
and the lanes fold in halves. With ``NUMBA_DISABLE_JIT=1`` lanes are numpy arrays and the same functions give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic, models, register_model

WIDTH = 16
_VECTOR = ir.VectorType(ir.DoubleType(), WIDTH)
_INT = ir.IntType(32)


class _Lanes(types.Type):  # type: ignore[misc]  # numba comes without types
    """The numba type of :data:`WIDTH` lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"float64x{WIDTH}")


_LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Lanes travel as one LLVM vector."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _vector_function(result: Any, arguments: tuple[Any, ...], emit: Callable[..., Any], plain: Callable[..., Any]) -> Any:
    """Return a function of lanes for kernels: LLVM instructions by ``emit``, or ``plain`` where kernels run as Python."""
    if config.DISABLE_JIT:
        return plain

    def typed(*given: Any) -> Any:
        signature = result(*(own or actual for own, actual in zip(arguments, given, strict=True)))
        return signature, lambda context, builder, _, values: emit(context, builder, given, *values)

    by_arity = (lambda _, a: typed(a), lambda _, a, b: typed(a, b), lambda _, a, b, c: typed(a, b, c))
    return intrinsic(by_arity[len(arguments) - 1])


def _index(value: int) -> Any:
    return ir.Constant(_INT, value)


def _splat(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _index(0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH))


def _emit_load(context: Any, builder: Any, given: Any, array: Any, at: Any) -> Any:
    data = context.make_array(given[0])(context, builder, array).data
    place = builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())
    return builder.load(place, align=8)


def _emit_store(context: Any, builder: Any, given: Any, array: Any, at: Any, lanes: Any) -> Any:
    data = context.make_array(given[0])(context, builder, array).data
    builder.store(lanes, builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer()), align=8)
    return context.get_dummy_value()


def _emit_head(context: Any, builder: Any, given: Any, lanes: Any, count: Any, other: Any) -> Any:
    number = ir.VectorType(ir.IntType(64), WIDTH)
    limit = builder.insert_element(ir.Constant(number, ir.Undefined), count, _index(0))
    limit = builder.shuffle_vector(limit, limit, ir.Constant(ir.VectorType(_INT, WIDTH), [0] * WIDTH))
    inside = builder.icmp_signed("<", ir.Constant(number, list(range(WIDTH))), limit)
    return builder.select(inside, lanes, _splat(builder, other))


def _folding(combine: Callable[..., Any]) -> Callable[..., Any]:
    """Return the emitter that combines the upper half of the lanes with the lower half until one is left."""

    def emit(context: Any, builder: Any, given: Any, lanes: Any) -> Any:
        width = WIDTH
        while width > 1:
            width //= 2
            kind = ir.VectorType(_INT, width)
            low = builder.shuffle_vector(lanes, lanes, ir.Constant(kind, list(range(width))))
            high = builder.shuffle_vector(lanes, lanes, ir.Constant(kind, list(range(width, 2 * width))))
            lanes = combine(builder, low, high)
        return builder.extract_element(lanes, _index(0))

    return emit


def _select_less(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", b, a), b, a)


def _select_greater(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def _fold(lanes: Any, combine: Callable[..., Any]) -> Any:
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = combine(lanes[:half], lanes[half:])
    return lanes[0]


def _plain_load(array: Any, at: Any) -> Any:
    return array[at : at + WIDTH].copy()


def _plain_store(array: Any, at: Any, lanes: Any) -> None:
    array[at : at + WIDTH] = lanes


def _plain_fill(value: Any) -> Any:
    return np.full(WIDTH, value)


def _plain_head(lanes: Any, count: Any, other: Any) -> Any:
    return np.where(np.arange(WIDTH) < count, lanes, other)


def _plain_add(a: Any, b: Any) -> Any:
    return a + b


def _plain_sub(a: Any, b: Any) -> Any:
    return a - b


def _plain_mul(a: Any, b: Any) -> Any:
    return a * b


def _plain_lesser(a: Any, b: Any) -> Any:
    return np.where(b < a, b, a)


def _plain_greater(a: Any, b: Any) -> Any:
    return np.where(b > a, b, a)


def _plain_total(lanes: Any) -> Any:
    return _fold(lanes, _plain_add)


def _plain_least(lanes: Any) -> Any:
    return _fold(lanes, _plain_lesser)


def _plain_most(lanes: Any) -> Any:
    return _fold(lanes, _plain_greater)


_F8, _I8 = types.float64, types.int64
_TWO = (_LANES, _LANES)

load = _vector_function(_LANES, (None, types.intp), _emit_load, _plain_load)
"""``load(x, i)``: the lanes ``x[i : i + 16]`` of a contiguous float64 array; all sixteen must lie inside, nothing checks it."""
store = _vector_function(types.void, (None, types.intp, _LANES), _emit_store, _plain_store)
"""``store(x, i, a)``: write the lanes to ``x[i : i + 16]``, unchecked too."""
fill = _vector_function(_LANES, (_F8,), lambda c, b, g, value: _splat(b, value), _plain_fill)
"""``fill(v)``: ``v`` in every lane."""
head = _vector_function(_LANES, (_LANES, _I8, _F8), _emit_head, _plain_head)
"""``head(a, count, other)``: the first ``count`` lanes of ``a``, ``other`` in the rest."""
add = _vector_function(_LANES, _TWO, lambda c, b, g, x, y: b.fadd(x, y), _plain_add)
sub = _vector_function(_LANES, _TWO, lambda c, b, g, x, y: b.fsub(x, y), _plain_sub)
mul = _vector_function(_LANES, _TWO, lambda c, b, g, x, y: b.fmul(x, y), _plain_mul)
lesser = _vector_function(_LANES, _TWO, lambda c, b, g, x, y: _select_less(b, x, y), _plain_lesser)
"""``lesser(a, b)``: lane by lane ``b`` where it is less, else ``a``: a NaN in ``b`` is passed over."""
greater = _vector_function(_LANES, _TWO, lambda c, b, g, x, y: _select_greater(b, x, y), _plain_greater)
"""``greater(a, b)``: lane by lane ``b`` where it is greater, else ``a``."""
total = _vector_function(_F8, (_LANES,), _folding(lambda b, x, y: b.fadd(x, y)), _plain_total)
"""``total(a)``: the sum of all lanes, folded in halves."""
least = _vector_function(_F8, (_LANES,), _folding(_select_less), _plain_least)
most = _vector_function(_F8, (_LANES,), _folding(_select_greater), _plain_most)
