"""Explicit vectors of `LANES` numbers inside kernels.

The compiler cannot keep an accumulator in registers where arrays might overlap, nor put a short
loop into vectors without asking at each start whether they do. Vectors that are named avoid both,
and their order of summation is written down. They are legal on every processor: the compiler
splits them into what it has.

Arrays are 1-dimensional and contiguous, and positions are not checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

from dnmf.linalg.numba_private import cgutils

__all__ = ["LANES", "LINE", "bits", "fma", "greater", "largest", "load", "number",
           "prefetch", "smallest", "splat_at", "store", "store_totals", "total"]  # fmt: skip

LINE = 64
"""Bytes of a cache line."""

LANES = 16
"""Numbers of a vector: one register of 512 bits in float32, two in float64."""


class Vector(types.Type):
    """`LANES` numbers of a dtype."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        element = manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, LANES))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, position: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [position], inbounds=True)


def _splatted(builder: Any, element: Any) -> Any:
    kind = ir.VectorType(element.type, LANES)
    zero = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), element, zero)
    order = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), order)


def _loaded(builder: Any, pointer: Any, size: int) -> Any:
    whole = ir.VectorType(pointer.type.pointee, LANES).as_pointer()
    return builder.load(builder.bitcast(pointer, whole), align=size)


@intrinsic
def load(typing, array, position):  # type: ignore[no-untyped-def]
    """Return the vector of ``array`` from ``position`` on."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *args)
        return _loaded(builder, pointer, array.dtype.bitwidth // 8)

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def prefetch(typing, array, position):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of the vector from ``position`` on, and do not wait for them."""
    size = array.dtype.bitwidth // 8
    lines = range(0, LANES, LINE // size)

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]),
            "llvm.prefetch.p0i8",
        )
        for line in lines:
            at = builder.add(args[1], ir.Constant(args[1].type, line))
            pointer = _pointer(context, builder, signature.args[0], args[0], at)
            how = [ir.Constant(flag, x) for x in (0, 3, 1)]  # read, into all caches, data
            builder.call(function, [builder.bitcast(pointer, byte), *how])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@intrinsic
def store(typing, array, position, vector):  # type: ignore[no-untyped-def]
    """Write a vector into ``array`` from ``position`` on."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        pointer = builder.bitcast(pointer, args[2].type.as_pointer())
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, vector), generate


@intrinsic
def splat_at(typing, array, position):  # type: ignore[no-untyped-def]
    """Return a vector of ``array[position]``."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *args)
        return _splatted(builder, builder.load(pointer))

    return Vector(array.dtype)(array, types.intp), generate


@intrinsic
def fma(typing, a, b, c):  # type: ignore[no-untyped-def]
    """Return ``a * b + c``, by one instruction where the processor has one."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        kind = args[0].type
        name = f"llvm.fmuladd.v{LANES}f{a.dtype.bitwidth}"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return builder.call(function, args)

    return a(a, b, c), generate


@intrinsic
def total(typing, vector):  # type: ignore[no-untyped-def]
    """Return the sum of a vector's numbers: of its halves, their halves and so on."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        x = _folded(builder, args[0], LANES, 1)
        return builder.extract_element(x, ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), generate


def _folded(builder: Any, x: Any, width: int, least: int) -> Any:
    """Sum a vector's halves, their halves and so on, until ``least`` numbers are left."""
    while width > least:
        width //= 2
        kind = ir.VectorType(ir.IntType(32), width)
        low = ir.Constant(kind, list(range(width)))
        high = ir.Constant(kind, list(range(width, 2 * width)))
        x = builder.fadd(builder.shuffle_vector(x, x, low), builder.shuffle_vector(x, x, high))
    return x


def _both(builder: Any, a: Any, b: Any, low: list[int], high: list[int]) -> Any:
    """Return the sum of two selections from two vectors of four."""
    kind = ir.VectorType(ir.IntType(32), 4)
    first = builder.shuffle_vector(a, b, ir.Constant(kind, low))
    return builder.fadd(first, builder.shuffle_vector(a, b, ir.Constant(kind, high)))


@intrinsic
def store_totals(typing, array, position, a, b, c, d):  # type: ignore[no-untyped-def]
    """Write the `total` of each of four vectors from ``position`` on, with equal bits."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        a, b, c, d = (_folded(builder, x, LANES, 4) for x in args[2:])
        first = _both(builder, a, b, [0, 4, 1, 5], [2, 6, 3, 7])
        second = _both(builder, c, d, [0, 4, 1, 5], [2, 6, 3, 7])
        found = _both(builder, first, second, [0, 1, 4, 5], [2, 3, 6, 7])
        pointer = builder.bitcast(pointer, found.type.as_pointer())
        builder.store(found, pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, a, b, c, d), generate


def _binary(name: str, build: Callable[[Any, Any, Any], Any]) -> Any:
    def function(typing, a, b):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return build(builder, *args)

        return a(a, b), generate

    function.__name__ = name
    return intrinsic(function)


def _chosen(sign: str) -> Callable[[Any, Any, Any], Any]:
    def build(builder: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(sign, a, b), a, b)

    return build


def _one_or_zero(builder: Any, a: Any, b: Any) -> Any:
    return builder.uitofp(builder.fcmp_ordered(">", a, b), a.type)


largest = _binary("largest", _chosen(">"))
smallest = _binary("smallest", _chosen("<"))
greater = _binary("greater", _one_or_zero)
_add = _binary("_add", lambda builder, a, b: builder.fadd(a, b))
_subtract = _binary("_subtract", lambda builder, a, b: builder.fsub(a, b))
_multiply = _binary("_multiply", lambda builder, a, b: builder.fmul(a, b))
_divide = _binary("_divide", lambda builder, a, b: builder.fdiv(a, b))


def _overload(operation: Any, function: Any) -> None:
    @overload(operation, inline="always")
    def typed(a, b):  # type: ignore[no-untyped-def]
        if isinstance(a, Vector) and a == b:
            return lambda a, b: function(a, b)
        return None


_overload(operator.add, _add)
_overload(operator.sub, _subtract)
_overload(operator.mul, _multiply)
_overload(operator.truediv, _divide)


@intrinsic
def bits(typing, number):  # type: ignore[no-untyped-def]
    """Return the bits of a float64, as an int64."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def number(typing, bits):  # type: ignore[no-untyped-def]
    """Return the float64 of an int64's bits."""

    def generate(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate
