"""Unaligned loads from a byte array, big-endian (one load and one byte swap each, which LLVM doesn't make of shifts), and stores into one.

Nothing here checks bounds: the caller has proven that ``index + width <= len(buf)``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from kernels.jit import numba  # type: ignore[attr-defined]  # kernels.jit names the cache folder before numba reads it

types = numba.types
intrinsic = numba.extending.intrinsic

_Implementation = Callable[..., Any]


def _big_endian(bits: int, result: Any) -> _Implementation:
    def load(typingctx: Any, buf: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, args[0])
            offset = context.cast(builder, args[1], signature.args[1], types.int64)
            address = builder.gep(array.data, [offset])
            wide = ir.IntType(bits)
            word = builder.load(builder.bitcast(address, wide.as_pointer()), align=1)
            return builder.bswap(word)

        return result(buf, index), codegen

    return load


def _store_64(typingctx: Any, buf: Any, index: Any, word: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        offset = context.cast(builder, args[1], signature.args[1], types.int64)
        address = builder.gep(array.data, [offset])
        builder.store(args[2], builder.bitcast(address, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(buf, index, types.uint64), codegen


def _bits_to_float(bits: int, result: Any) -> Any:
    def reinterpret(typingctx: Any, word: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = ir.FloatType() if bits == 32 else ir.DoubleType()
            return builder.bitcast(args[0], kind)

        return result(types.uint32 if bits == 32 else types.uint64), codegen

    return reinterpret


def _prefetch(typingctx: Any, values: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        offset = context.cast(builder, args[1], signature.args[1], types.int64)
        address, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [address, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", (address,), form)
        read, into_every_cache, data = (ir.Constant(number, n) for n in (0, 3, 1))
        builder.call(hint, [builder.bitcast(builder.gep(array.data, [offset]), address), read, into_every_cache, data])
        return context.get_dummy_value()

    return types.void(values, index), codegen


GROUP = 4
"""F4 items (91 04 and four bytes each) that fill one vector of four float32."""
BLOCK = 16
"""F4 items that ``f4_block`` converts."""
F4_ITEM = 6
F4_FORM = (0x91, 0x04)


def _bytes_of(values: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(8), len(values)), values)


def _f4_block(wide: bool) -> _Implementation:
    """Return vector code for BLOCK items: two 16-byte loads hold four items; a shuffle picks their data bytes, already swapped.

    The header bytes are compared under a mask, and all differences are joined, so that there is one branch for the block.
    """
    kind, result = (ir.DoubleType(), types.float64) if wide else (ir.FloatType(), types.float32)
    bytes_16, numbers_4, bits_128 = ir.VectorType(ir.IntType(8), 16), ir.VectorType(kind, GROUP), ir.IntType(128)

    def block(typingctx: Any, buf: Any, index: Any, values: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            source = context.make_array(signature.args[0])(context, builder, args[0])
            target = context.make_array(signature.args[2])(context, builder, args[2])
            offset = context.cast(builder, args[1], signature.args[1], types.int64)
            out = context.cast(builder, args[3], signature.args[3], types.int64)
            start = builder.gep(source.data, [offset])
            first = builder.gep(target.data, [out])
            position = [i % F4_ITEM for i in range(24)]
            form = [F4_FORM[k] if k < 2 else 0 for k in position]
            mask = [0xFF if k < 2 else 0 for k in position]
            picks = [F4_ITEM * item + 5 - byte for item in range(GROUP) for byte in range(4)]
            shuffle = ir.Constant(ir.VectorType(ir.IntType(32), 16), [k if k < 16 else k + 8 for k in picks])
            nan = ir.Constant(numbers_4, [float("nan")] * GROUP)
            difference = ir.Constant(bytes_16, [0] * 16)
            for group in range(BLOCK // GROUP):
                halves = []
                for skip in (0, 8):
                    address = builder.gep(start, [ir.Constant(ir.IntType(64), F4_ITEM * GROUP * group + skip)])
                    half = builder.load(builder.bitcast(address, bytes_16.as_pointer()), align=1)
                    wrong = builder.and_(builder.xor(half, _bytes_of(form[skip : skip + 16])), _bytes_of(mask[skip : skip + 16]))
                    difference = builder.or_(difference, wrong)
                    halves.append(half)
                picked = builder.shuffle_vector(halves[0], halves[1], shuffle)
                numbers = builder.bitcast(picked, ir.VectorType(ir.FloatType(), GROUP))
                numbers = builder.fpext(numbers, numbers_4) if wide else numbers
                numbers = builder.select(builder.fcmp_ordered("ord", numbers, numbers), numbers, nan)
                address = builder.gep(first, [ir.Constant(ir.IntType(64), GROUP * group)])
                builder.store(numbers, builder.bitcast(address, numbers_4.as_pointer()), align=result.bitwidth // 8)
            return builder.icmp_unsigned("==", builder.bitcast(difference, bits_128), ir.Constant(bits_128, 0))

        return types.boolean(buf, index, values, at), codegen

    return block


if numba.config.DISABLE_JIT:

    def be16(buf: Any, index: int) -> Any:
        """Return the 16-bit word at ``index``."""
        return np.int64(int.from_bytes(buf[index : index + 2].tobytes(), "big"))

    def be32(buf: Any, index: int) -> Any:
        """Return the 32-bit word at ``index``."""
        return np.uint32(int.from_bytes(buf[index : index + 4].tobytes(), "big"))

    def be64(buf: Any, index: int) -> Any:
        """Return the 64-bit word at ``index``."""
        return np.uint64(int.from_bytes(buf[index : index + 8].tobytes(), "big"))

    def sbe64(buf: Any, index: int) -> Any:
        """Return the 64-bit word at ``index``, signed."""
        return np.int64(int.from_bytes(buf[index : index + 8].tobytes(), "big", signed=True))

    def f4_block(buf: Any, index: int, values: Any, at: int) -> bool:
        """Convert BLOCK items at ``index`` to ``values[at:]``; return False (anything may be written) where one is no F4."""
        items = buf[index : index + BLOCK * F4_ITEM].reshape(BLOCK, F4_ITEM)
        numbers = items[:, 2:].copy().view(">f4").ravel()
        with np.errstate(invalid="ignore"):
            values[at : at + BLOCK] = np.where(np.isnan(numbers), np.nan, numbers.astype(values.dtype))
        return bool((items[:, :2] == F4_FORM).all())

    f4_narrow_block = f4_block

    def put64(buf: Any, index: int, word: Any) -> None:
        """Store a 64-bit word at ``index``, the least byte first."""
        buf[index : index + 8] = np.frombuffer(int(word).to_bytes(8, "little"), np.uint8)

    def prefetch(values: Any, index: int) -> None:
        """Let the cache fetch ``values[index]``, which will be read; it may lie outside."""

    def float_of_32(word: Any) -> Any:
        """Return the float32 of these bits."""
        return np.float32(struct.unpack(">f", int(word).to_bytes(4, "big"))[0])

    def float_of_64(word: Any) -> Any:
        """Return the float64 of these bits."""
        return np.uint64(word).view(np.float64)

else:
    be16 = intrinsic(_big_endian(16, types.uint16))
    be32 = intrinsic(_big_endian(32, types.uint32))
    be64 = intrinsic(_big_endian(64, types.uint64))
    sbe64 = intrinsic(_big_endian(64, types.int64))
    f4_block = intrinsic(_f4_block(wide=True))
    f4_narrow_block = intrinsic(_f4_block(wide=False))
    put64 = intrinsic(_store_64)
    prefetch = intrinsic(_prefetch)
    float_of_32 = intrinsic(_bits_to_float(32, types.float32))
    float_of_64 = intrinsic(_bits_to_float(64, types.float64))
