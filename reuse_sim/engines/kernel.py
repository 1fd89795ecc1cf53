"""The numba engine's kernel: K steps of one network at a time, with everything they need in cache.

**What is computed.** For every layer with inputs A (m questions × fan-in) and weights W (fan-in × fan-out)

    forward     Z = A W + b,  then tanh Z or max(Z, 0)
    backward    dW = Aᵀ dZ,  db = Σ dZ,  dA = dZ Wᵀ,  then dA · (1 − A²) or dA · [A > 0]

and at last the optimiser's update. The three products are one: C[r, j] = C₀[r, j] + Σ_k a[r, k] B[k, j]. The
numbers a are read singly, with any strides (so Aᵀ costs nothing), and spread over lanes; B and C are read and
written 16 columns at a time. Lanes run over units, never over the sum: each result is one chain of fused
multiply-adds in the order of k, whatever the width of the machine's registers, the shape of the tile or the
neighbours of the network, and equal to the last bit in all of these.

**Blocking.** A tile keeps 4 × 64 results in sixteen registers of 16 lanes (8 × 32 or 16 × 16 where fewer
columns are left). One k costs it 4 loads of B, 4 loads of a and 16 multiply-adds; at two loads and two
multiply-adds per cycle the loads take half of the time, and sixteen chains cover 4 cycles of latency on two ports
twice. Machines with registers of 8 or 4 lanes keep 4 × 16: 16 registers of 8 lanes, of which 8 are results, or
32 of 4, of which 16 are. Widths are padded to 16 with zeros, which every optimiser leaves at zero. A last layer
of at most NARROW outputs would waste its lanes: it is kept as fan-out × fan-in, its forward product sums over
lanes by a fixed tree, its other two products have lanes over fan-in. Questions come in blocks of ROWS, so that
their activations stay near; gradients add up over blocks (C₀ = C).

**Arithmetic intensity and the floor.** A network d-W-W-1 takes 2B (2dW + 3W² + 3W) flops per step on B
questions and touches 4 (dW + W² + 3W) bytes of parameters as often as its optimiser has states, from the cache
for K steps. At B = 128 that is some hundred flops per byte: the floor is flops over the peak rate of
multiply-adds. Above it lie tanh (a quarter of the time at W = 16, a seventh at W = 64), products too short to
fill a tile (first and last layer), the copy of Wᵀ, and the optimiser. `reuse-sim bench train` says how far.

Everything is in this one file because numba's cache on disk looks at the file of the function called, not at
those it calls.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import extending, njit, types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features

LANES = 16
ROWS = 128
NARROW = 8
SGD, ADAM = 0, 1
SQUARED, LOGISTIC, CROSS_ENTROPY = 0, 1, 2
RUNNING, BROKEN, STOPPED = 0, 1, 2
_FEATURES = getattr(config, "CPU_FEATURES", None)  # set by those who compile for another machine
_FEATURES = get_host_cpu_features() if _FEATURES is None else _FEATURES
WIDE = "+avx512f" in _FEATURES
"""Registers of 16 lanes, 32 of them."""


class Plan(NamedTuple):
    """Where everything lies in the working memory `mem`, counted in float32.

    Parameters fill `mem[:size]`, then come gradient, first and second moments, `size` each. A layer's weights
    are `(ld_in, ld)` with lanes over its outputs, those of a narrow last layer `(fan_out, ld)` with lanes over
    its inputs. Activations are `(ROWS, ld)`, those of a narrow last layer `(fan_out, ROWS)`.
    """

    layers: np.ndarray
    """Per layer: fan-in, fan-out, row lengths ld_in and ld, and where weights, biases, Wᵀ, inputs, outputs begin."""
    narrow: bool
    relu: bool
    bias: bool
    size: int
    zeros: int
    deltas: int
    """Two blocks of gradients of activations, `apart` apart."""
    apart: int
    targets: int
    columns: int
    scratch: int
    scratch_line: int
    stay: int
    """Questions that stay in memory; more of them are copied anew for every step."""


class Rule(NamedTuple):
    """The optimiser and when to stop: SGD reads `first` as its momentum; clip 0 is none, stop −inf never."""

    kind: int
    first: float
    second: float
    eps: float
    decay: float
    clip: float
    stop: float


# Columns of `heads`; their weights lie apart in `shares`.
KIND, START, COUNT, TARGET = range(4)

ZERO = np.float32(0)
intrinsic: Any = extending.intrinsic
_numba = partial(njit, nogil=True, fastmath={"contract"}, error_model="numpy")
entry = _numba(cache=True)
part = _numba(forceinline=True)  # numba's calls go through addresses in registers, and small networks feel it

# Sixteen lanes in LLVM's own words -------------------------------------------------------------------
# The compiler splits a <16 x float> into what the machine has: one register, two or four.

FLOAT, INT, SHORT = ir.FloatType(), ir.IntType(64), ir.IntType(32)
VECTOR, BITS = ir.VectorType(FLOAT, LANES), ir.VectorType(SHORT, LANES)


def _int(k):
    return ir.Constant(INT, k)


def _all(value):
    return ir.Constant(VECTOR, [float(np.float32(value))] * LANES)


def _fma(b, x, y, z):
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    return b.call(cgutils.get_or_insert_function(b.module, kind, "llvm.fmuladd.v16f32"), [x, y, z])


def _load(b, p):
    return b.load(b.bitcast(p, VECTOR.as_pointer()), align=4)


def _store(b, v, p):
    b.store(v, b.bitcast(p, VECTOR.as_pointer()), align=4)


def _shuffle(b, v, w, order):
    return b.shuffle_vector(v, w, ir.Constant(BITS, list(order)))


def _spread(b, scalar):
    none = ir.Constant(VECTOR, ir.Undefined)
    return _shuffle(b, b.insert_element(none, scalar, ir.Constant(SHORT, 0)), none, [0] * LANES)


def _clamp(b, v, low, high):  # written so that NaN stays NaN
    v = b.select(b.fcmp_ordered(">", v, _all(high)), _all(high), v)
    return b.select(b.fcmp_ordered("<", v, _all(low)), _all(low), v)


def _polynomial(b, u, coefficients):
    out = _all(coefficients[-1])
    for c in coefficients[-2::-1]:
        out = _fma(b, out, u, _all(c))
    return out


def _add_lanes(b, v):
    for half in (8, 4, 2, 1):
        v = b.fadd(v, _shuffle(b, v, v, [(i + half) % LANES for i in range(LANES)]))
    return b.extract_element(v, ir.Constant(SHORT, 0))


def _memory(ctx, b, sig, args):
    """A function (position, row, row length, further) -> pointer into `mem`."""
    base = ctx.make_array(sig.args[0])(ctx, b, value=args[0]).data

    def at(start, row=0, length=None, more=0):
        before = b.mul(_int(row), length) if row else _int(0)
        return b.gep(base, [b.add(start, b.add(before, _int(more)))])

    return at


def _loop(b, count, carried, step):
    """for k in range(count): carried = step(k, carried). Returns the last ones."""
    start, body, done = b.block, b.append_basic_block("body"), b.append_basic_block("done")
    b.cbranch(b.icmp_signed(">", count, _int(0)), body, done)
    b.position_at_end(body)
    k, state = b.phi(INT), [b.phi(v.type) for v in carried]
    after = step(k, state)
    end, more = b.block, b.add(k, _int(1))
    for phi, before, now in zip([k, *state], [_int(0), *carried], [more, *after], strict=True):
        phi.add_incoming(before, start)
        phi.add_incoming(now, end)
    b.cbranch(b.icmp_signed("<", more, count), body, done)
    b.position_at_end(done)
    out = [b.phi(v.type) for v in carried]
    for phi, before, now in zip(out, carried, after, strict=True):
        phi.add_incoming(before, start)
        phi.add_incoming(now, end)
    return out


# The product -----------------------------------------------------------------------------------------


def _tile(R, V):
    """C₀ + a B for R rows and 16 V columns over `depth` terms, held in R · V registers."""

    @intrinsic
    def tile(typing, mem, c, ldc, a, row, step, b_, ldb, depth, c0, ld0):
        def generate(ctx, b, sig, args):
            at = _memory(ctx, b, sig, args)
            c, ldc, a, row, step, b_, ldb, depth, c0, ld0 = args[1:]
            both = [(r, v) for r in range(R) for v in range(V)]

            def one(k, carried):
                a, b_, *results = carried
                columns = [_load(b, at(b_, more=LANES * v)) for v in range(V)]
                spread = [_spread(b, b.load(at(a, r, row), align=4)) for r in range(R)]
                results = [_fma(b, spread[r], columns[v], c) for (r, v), c in zip(both, results, strict=True)]
                return [b.add(a, step), b.add(b_, ldb), *results]

            first = [_load(b, at(c0, r, ld0, LANES * v)) for r, v in both]
            for (r, v), result in zip(both, _loop(b, depth, [a, b_, *first], one)[2:], strict=True):
                _store(b, result, at(c, r, ldc, LANES * v))

        return types.void(mem, *[types.intp] * 10), generate

    return tile


def _strip(V, R, rest=None):
    """The product on 16 V columns: rows in tiles of R, what is left by `rest`."""
    tile = _tile(R, V)
    last = rest or tile

    @part
    def strip(mem, c, ldc, a, row, step, b, ldb, rows, depth, c0, ld0):
        i = 0
        while i + R <= rows:
            tile(mem, c + i * ldc, ldc, a + i * row, row, step, b, ldb, depth, c0 + i * ld0, ld0)
            i += R
        if R > 1 and i < rows:
            last(mem, c + i * ldc, ldc, a + i * row, row, step, b, ldb, rows - i, depth, c0 + i * ld0, ld0)

    return strip


_strip_64 = _strip(4, 4, _strip(4, 1))
_strip_32 = _strip(2, 8, _strip(2, 4, _strip(2, 1)))
_strip_16 = _strip(1, 16, _strip(1, 8, _strip(1, 4, _strip(1, 1)))) if WIDE else _strip(1, 4, _strip(1, 1))


@_numba()
def product(mem, c, ldc, a, row, step, b, ldb, rows, columns, depth, c0, ld0):
    """C[r, j] = C₀[r, j] + Σ_k a[r, k] B[k, j], a[r, k] at `a + r · row + k · step`; columns a multiple of 16."""
    j = 0
    while j < columns:
        left = columns - j if WIDE else LANES
        if left >= 64:
            _strip_64(mem, c + j, ldc, a, row, step, b + j, ldb, rows, depth, c0 + j, ld0)
            j += 64
        elif left >= 32:
            _strip_32(mem, c + j, ldc, a, row, step, b + j, ldb, rows, depth, c0 + j, ld0)
            j += 32
        else:
            _strip_16(mem, c + j, ldc, a, row, step, b + j, ldb, rows, depth, c0 + j, ld0)
            j += 16


@intrinsic
def transpose_16(typing, mem, to, ldt, a, lda):
    """A 16 × 16 square: interleaving rows r and r + 8 four times turns (row, column) into (column, row)."""

    def generate(ctx, b, sig, args):
        at = _memory(ctx, b, sig, args)
        to, ldt, a, lda = args[1:]
        v = [_load(b, at(a, r, lda)) for r in range(LANES)]
        for _ in range(4):
            weave = [[i // 2 + i % 2 * LANES + half for i in range(LANES)] for half in (0, 8)]
            v = [_shuffle(b, v[r // 2], v[r // 2 + 8], weave[r % 2]) for r in range(LANES)]
        for r in range(LANES):
            _store(b, v[r], at(to, r, ldt))

    return types.void(mem, *[types.intp] * 4), generate


@intrinsic
def copy(typing, to, i, source, j, count):
    """`count` numbers from the j-th of one array to the i-th of another, both contiguous; at least 16 or by ones."""

    def generate(ctx, b, sig, args):
        a, z = (ctx.make_array(sig.args[n])(ctx, b, value=args[n]).data for n in (0, 2))
        i, j, count = args[1], args[3], args[4]
        short = b.icmp_signed("<", count, _int(LANES))

        def move(load, store, step):
            def one(k, _):
                # The last sixteen may overlap those before.
                k = b.mul(k, _int(step))
                last = b.sub(count, _int(step))
                k = b.select(b.icmp_signed("<", k, last), k, last)
                store(b, load(b, b.gep(z, [b.add(j, k)])), b.gep(a, [b.add(i, k)]))
                return []

            return one

        with b.if_else(short) as (few, many):
            with few:
                _loop(b, count, [], move(lambda b, p: b.load(p), lambda b, v, p: b.store(v, p), 1))
            with many:
                whole = b.sdiv(b.add(count, _int(LANES - 1)), _int(LANES))
                _loop(b, whole, [], move(_load, _store, LANES))

    return types.void(to, types.intp, source, types.intp, types.intp), generate


@intrinsic
def dots_16(typing, mem, c, a, lda, w, depth):
    """c[r] = Σ_k a[r, k] w[k] for 16 rows: a sum per lane, then a tree over neighbouring lanes."""

    def generate(ctx, b, sig, args):
        at = _memory(ctx, b, sig, args)
        c, a, lda, w, depth = args[1:]

        def one(k, sums):
            k = b.mul(k, _int(LANES))
            row = _load(b, at(b.add(w, k)))
            return [_fma(b, _load(b, at(b.add(a, k), r, lda)), row, sums[r]) for r in range(LANES)]

        v = _loop(b, b.sdiv(depth, _int(LANES)), [_all(0.0)] * LANES, one)
        even = range(0, 2 * LANES, 2)
        while len(v) > 1:
            pairs = zip(v[::2], v[1::2], strict=True)
            v = [b.fadd(_shuffle(b, p, q, even), _shuffle(b, p, q, (i + 1 for i in even))) for p, q in pairs]
        _store(b, v[0], at(c))

    return types.void(mem, *[types.intp] * 5), generate


@intrinsic
def add_rows_16(typing, mem, c, a, lda, rows, c0):
    """c = c₀ + Σ_r a[r] on 16 columns, in four interleaved sums; rows a multiple of 4."""

    def generate(ctx, b, sig, args):
        at = _memory(ctx, b, sig, args)
        c, a, lda, rows, c0 = args[1:]

        def one(k, sums):
            p = b.add(a, b.mul(b.mul(k, _int(4)), lda))
            return [b.fadd(sums[r], _load(b, at(p, r, lda))) for r in range(4)]

        s = _loop(b, b.sdiv(rows, _int(4)), [_all(0.0)] * 4, one)
        _store(b, b.fadd(_load(b, at(c0)), b.fadd(b.fadd(s[0], s[1]), b.fadd(s[2], s[3]))), at(c))

    return types.void(mem, *[types.intp] * 5), generate


def _sum(term):
    @intrinsic
    def total(typing, mem, a, count):
        """Σ term(a) over `count` numbers, a multiple of 16."""

        def generate(ctx, b, sig, args):
            at = _memory(ctx, b, sig, args)
            _, a, count = args

            def one(k, sums):
                return [term(b, _load(b, at(b.add(a, b.mul(k, _int(LANES))))), sums[0])]

            return _add_lanes(b, _loop(b, b.sdiv(count, _int(LANES)), [_all(0.0)], one)[0])

        return types.float32(mem, types.intp, types.intp), generate

    return total


sum_16 = _sum(lambda b, v, total: b.fadd(total, v))
squares_16 = _sum(lambda b, v, total: _fma(b, v, v, total))
nothing_16 = _sum(lambda b, v, total: _fma(b, v, _all(0.0), total))  # 0, or NaN where a number is not finite


# Functions of one number -----------------------------------------------------------------------------

# tanh x = x P(x²)/Q(x²) on |x| ≤ 9, where float32 reaches 1; a minimax fit of relative error 2.1e-8 before
# rounding (Lawson's weights), at most 6 units in the last place after it.
TANH_P = (0.9999999794690805, 0.1338102422772777, 0.0034955864807794204, 2.0609056773786175e-05, 1.335462921164547e-08)
TANH_Q = (1.0, 0.4671433982358913, 0.025876975848402994, 0.00032856321904447416, 7.776544426023751e-07)


def _tanh(b, x):
    x = _clamp(b, x, -9.0, 9.0)
    u = b.fmul(x, x)
    return _clamp(b, b.fdiv(b.fmul(x, _polynomial(b, u, TANH_P)), _polynomial(b, u, TANH_Q)), -1.0, 1.0)


def _exp(b, x):
    """eˣ = 2ⁿ eʳ with n = round(x / ln 2), for x ≤ 88; ln 2 in two parts (Cody & Waite 1980)."""
    x = _clamp(b, x, -87.0, 88.0)
    magic = _all(1.5 * 2**23)  # adding it rounds to a whole number, which then lies in the lowest bits
    shifted = _fma(b, x, _all(1 / math.log(2)), magic)
    n = b.fsub(shifted, magic)
    r = _fma(b, n, _all(2.12194440e-4), _fma(b, n, _all(-0.693359375), x))
    small = _polynomial(b, r, [1 / math.factorial(i) for i in range(8)])
    power = b.shl(b.bitcast(shifted, BITS), ir.Constant(BITS, [23] * LANES))
    return b.bitcast(b.add(b.bitcast(small, BITS), power), VECTOR)


def _decay(b, z):
    """e^−|z|."""
    return _exp(b, b.select(b.fcmp_ordered(">", z, _all(0.0)), b.fneg(z), z))


def _sigmoid(b, z):
    e = _decay(b, z)
    top = b.select(b.fcmp_ordered(">", z, _all(0.0)), _all(1.0), e)
    return b.fdiv(top, b.fadd(_all(1.0), e))


def _softplus(b, z):
    """log(1 + eᶻ) = max(z, 0) + 2 artanh(s), s = e/(2 + e) ≤ 1/3 with e = e^−|z|."""
    e = _decay(b, z)
    s = b.fdiv(e, b.fadd(_all(2.0), e))
    series = _polynomial(b, b.fmul(s, s), [2 / (2 * i + 1) for i in range(8)])
    return _fma(b, s, series, b.select(b.fcmp_ordered("<", z, _all(0.0)), _all(0.0), z))


def _lanes(function):
    @intrinsic
    def apply(typing, mem, x, y, z, s):
        """16 numbers at x become function(they, those at y, those at z, s)."""

        def generate(ctx, b, sig, args):
            at = _memory(ctx, b, sig, args)
            x, y, z = (at(p) for p in args[1:4])
            _store(b, function(b, _load(b, x), _load(b, y), _load(b, z), _spread(b, args[4])), x)

        return types.void(mem, types.intp, types.intp, types.intp, types.float32), generate

    return apply


tanh_16 = _lanes(lambda b, z, *_: _tanh(b, z))
tanh_back_16 = _lanes(lambda b, d, h, *_: b.fmul(d, _fma(b, b.fneg(h), h, _all(1.0))))
relu_16 = _lanes(lambda b, z, *_: b.select(b.fcmp_ordered("<", z, _all(0.0)), _all(0.0), z))
relu_back_16 = _lanes(lambda b, d, h, *_: b.select(b.fcmp_ordered(">", h, _all(0.0)), d, _all(0.0)))
exp_16 = _lanes(lambda b, z, *_: _exp(b, z))
subtract_16 = _lanes(lambda b, x, y, *_: b.fsub(x, y))
scale_16 = _lanes(lambda b, x, y, z, s: b.fmul(x, s))
add_to_all_16 = _lanes(lambda b, x, y, z, s: b.fadd(x, s))
scale_and_add_16 = _lanes(lambda b, x, y, z, s: _fma(b, s, x, y))
descend_16 = _lanes(lambda b, x, y, z, s: _fma(b, b.fneg(s), y, x))
logistic_16 = _lanes(lambda b, q, z, y, s: _fma(b, b.fneg(y), z, _softplus(b, z)))
logistic_back_16 = _lanes(lambda b, z, y, *_: b.fsub(_sigmoid(b, z), y))


@intrinsic
def adam_16(typing, mem, at_, size, one, two, rest_one, rest_two, keep, by, spread, eps):
    """Moments and parameters of 16 numbers, `size` apart: θ, g, v, w."""

    def generate(ctx, b, sig, args):
        at = _memory(ctx, b, sig, args)
        theta, g, v, w = (at(args[1], r, args[2]) for r in range(4))
        one, two, rest_one, rest_two, keep, by, spread, eps = (_spread(b, s) for s in args[3:])
        root = cgutils.get_or_insert_function(b.module, ir.FunctionType(VECTOR, [VECTOR]), "llvm.sqrt.v16f32")
        now = _load(b, g)
        mean = _fma(b, one, _load(b, v), b.fmul(rest_one, now))
        square = _fma(b, two, _load(b, w), b.fmul(rest_two, b.fmul(now, now)))
        step = b.fdiv(mean, _fma(b, b.call(root, [square]), spread, eps))
        _store(b, mean, v)
        _store(b, square, w)
        _store(b, _fma(b, b.fneg(by), step, b.fmul(keep, _load(b, theta))), theta)

    return types.void(mem, types.intp, types.intp, *[types.float32] * 8), generate


# One network -----------------------------------------------------------------------------------------


@part
def up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@part
def numbers(plan, layer):
    """The entries of one layer, in the order of Plan.layers."""
    t = plan.layers
    return (t[layer, 0], t[layer, 1], t[layer, 2], t[layer, 3], t[layer, 4], t[layer, 5], t[layer, 6], t[layer, 7],
            t[layer, 8])  # fmt: skip


@part
def transpose(mem, to, ldt, a, lda, rows, columns):
    """rows × columns numbers at a, transposed to `to`; only they are written."""
    whole_rows, whole_columns = rows // LANES * LANES, columns // LANES * LANES
    for r in range(0, whole_rows, LANES):
        for j in range(0, whole_columns, LANES):
            transpose_16(mem, to + j * ldt + r, ldt, a + r * lda + j, lda)
    for r in range(rows):
        for j in range(whole_columns if r < whole_rows else 0, columns):
            mem[to + j * ldt + r] = mem[a + r * lda + j]


@part
def activate(mem, at, count, relu):
    for i in range(at, at + count, LANES):
        if relu:
            relu_16(mem, i, i, i, ZERO)
        else:
            tanh_16(mem, i, i, i, ZERO)


@part
def activate_back(mem, delta, h, count, relu):
    for i in range(0, count, LANES):
        if relu:
            relu_back_16(mem, delta + i, h + i, h + i, ZERO)
        else:
            tanh_back_16(mem, delta + i, h + i, h + i, ZERO)


@part
def line_loss(mem, kind, z, y, count, q, share):
    """`count` neighbouring outputs at z, targets at y, become share · dL/dz; returns share · L. q is scratch.

    Lanes from `count` to the next multiple of 16 are free for use, and zero afterwards.
    """
    width = up(count, LANES)
    for i in range(0, width, LANES):
        if kind == SQUARED:
            subtract_16(mem, z + i, y + i, z, ZERO)
        else:
            logistic_16(mem, q + i, z + i, y + i, ZERO)
            logistic_back_16(mem, z + i, y + i, z, ZERO)
    for i in range(count, width):
        mem[z + i] = mem[q + i] = 0
    value = squares_16(mem, z, width) if kind == SQUARED else sum_16(mem, q, width)
    factor = np.float32(2 * share if kind == SQUARED else share)
    for i in range(0, width, LANES):
        scale_16(mem, z + i, z, z, factor)
    return value * share


@part
def class_loss(mem, z, column, count, right, p, share):
    """The same for `count` outputs `column` apart and the number of the right class."""
    top = mem[z]
    for o in range(1, count):
        top = max(top, mem[z + o * column])
    for o in range(count):
        mem[p + o] = mem[z + o * column] - top
    gap = mem[p + right]
    for i in range(0, count, LANES):
        exp_16(mem, p + i, p, p, ZERO)
    total = np.float32(0)
    for o in range(count):
        total += mem[p + o]
    for o in range(count):
        mem[z + o * column] = (mem[p + o] / total - (o == right)) * np.float32(share)
    return (math.log(total) - gap) * share


@part
def losses(mem, plan, heads, weight, z, t, m, asked):
    """Turn m questions' outputs at z, targets at t, into dL/dZ; returns their share of the loss over `asked`."""
    value = 0.0
    _, fan_out, _, ld, _, _, _, _, _ = numbers(plan, len(plan.layers) - 1)
    row, column = (1, ROWS) if plan.narrow else (ld, 1)
    row_t, column_t = (1, ROWS) if plan.narrow else (plan.columns, 1)
    p = plan.scratch
    q = p + plan.scratch_line
    y = q + plan.scratch_line
    for h in range(len(heads)):
        kind, count = heads[h, KIND], heads[h, COUNT]
        at, to = z + heads[h, START] * column, t + heads[h, TARGET] * column_t
        if kind == CROSS_ENTROPY:
            for r in range(m):
                right = int(mem[to + r * row_t])
                value += class_loss(mem, at + r * row, column, count, right, p, weight[h] / asked)
            continue
        share = weight[h] / (asked * count)
        if plan.narrow:
            for o in range(count):
                value += line_loss(mem, kind, at + o * column, to + o * column_t, m, q, share)
            continue
        for r in range(m):
            for o in range(count):
                mem[p + o], mem[y + o] = mem[at + r * row + o], mem[to + r * row_t + o]
            value += line_loss(mem, kind, p, y, count, q, share)
            for o in range(count):
                mem[at + r * row + o] = mem[p + o]
    # Rows that only fill up a tile count nothing.
    for r in range(m, up(m, LANES if plan.narrow else 4)):
        for o in range(fan_out):
            mem[z + r * row + o * column] = 0
    return value


@part
def fill(mem, plan, x, y, i, index, k, first, m, slot):
    """Copy m questions of network i, the block's `first` on, to where block `slot` has its inputs and targets."""
    _, _, ld, _, _, _, _, at, _ = numbers(plan, 0)
    at, to = at + slot * ROWS * ld, plan.targets + slot * ROWS * plan.columns
    row, column = (1, ROWS) if plan.narrow else (plan.columns, 1)
    ix, iy = i if len(x) > 1 else 0, i if len(y) > 1 else 0
    for r in range(m):
        q = index[i, k, first + r] if index.shape[1] else first + r
        for j in range(x.shape[2]):
            mem[at + r * ld + j] = x[ix, q, j]
        for j in range(y.shape[2]):
            mem[to + r * row + j * column] = y[iy, q, j]


@part
def gradient(mem, plan, heads, weight, x, y, i, index, k, start, asked, fresh):
    """The loss of the network at `mem[:size]`; its gradient goes to `mem[size:2 size]`.

    It is number i of its chunk and asked `asked` questions of x and y: from `start` on, or where there is an index,
    those in `index[i, k]` from `start` on. `fresh` says that they are not in memory yet.
    """
    last, value = len(plan.layers) - 1, 0.0
    for layer in range(1, last if plan.narrow else last + 1):
        _, _, ld_in, ld, w, _, wt, _, _ = numbers(plan, layer)
        transpose(mem, wt, ld_in, w, ld, ld_in, ld)
    for first in range(0, asked, ROWS):
        m = min(ROWS, asked - first)
        padded, slot = up(m, 4), first // ROWS if asked <= plan.stay else 0
        if fresh or asked > plan.stay:
            fill(mem, plan, x, y, i, index, k, start + first, m, slot)
        further = slot * ROWS * plan.layers[0, 2]

        for layer in range(last + 1):
            fan_in, fan_out, ld_in, ld, w, b, _, a, z = numbers(plan, layer)
            a += further if layer == 0 else 0
            if plan.narrow and layer == last:
                for o in range(fan_out):
                    for r in range(z + o * ROWS, z + o * ROWS + m, LANES):
                        dots_16(mem, r, a + (r - z - o * ROWS) * ld, ld, w + o * ld, ld)
                        add_to_all_16(mem, r, r, r, mem[b + o])
            else:
                product(mem, z, ld, a, ld_in, 1, w, ld, padded, ld, fan_in, b, 0)
                if layer < last:
                    activate(mem, z, padded * ld, plan.relu)

        delta = plan.layers[last, 8]
        value += losses(mem, plan, heads, weight, delta, plan.targets + slot * ROWS * plan.columns, m, asked)

        for layer in range(last, -1, -1):
            fan_in, fan_out, ld_in, ld, w, b, wt, a, _ = numbers(plan, layer)
            a += further if layer == 0 else 0
            dw, db, before = w + plan.size, b + plan.size, plan.deltas + layer % 2 * plan.apart
            c0, ld0 = (dw, ld) if first else (plan.zeros, 0)
            if plan.narrow and layer == last:
                product(mem, dw, ld, delta, ROWS, 1, a, ld, fan_out, ld, m, c0, ld0)
                for o in range(fan_out if plan.bias else 0):
                    mem[db + o] = (mem[db + o] if first else ZERO) + sum_16(mem, delta + o * ROWS, up(m, LANES))
                if layer:
                    product(mem, before, ld, delta, 1, ROWS, w, ld, padded, ld, fan_out, plan.zeros, 0)
            else:
                product(mem, dw, ld, a, 1, ld_in, delta, ld, up(fan_in, 4), ld, m, c0, ld0)
                for j in range(0, ld if plan.bias else 0, LANES):
                    add_rows_16(mem, db + j, delta + j, ld, padded, db + j if first else plan.zeros)
                if layer:
                    product(mem, before, ld_in, delta, ld, 1, wt, ld_in, padded, ld_in, fan_out, plan.zeros, 0)
            if layer:
                activate_back(mem, before, a, padded * ld_in, plan.relu)
                delta = before
    return value


@part
def update(mem, size, rule, rate, step):
    """One step of the optimiser, `step` counted from 1."""
    if rule.kind == SGD:
        for i in range(0, size, LANES):
            scale_and_add_16(mem, 2 * size + i, size + i, i, np.float32(rule.first))
            descend_16(mem, i, 2 * size + i, i, np.float32(rate))
        return
    one, two, eps = np.float32(rule.first), np.float32(rule.second), np.float32(rule.eps)
    rest_one, rest_two = np.float32(1 - rule.first), np.float32(1 - rule.second)
    keep, by = np.float32(1 - rate * rule.decay), np.float32(rate / (1 - rule.first**step))
    spread = np.float32(1 / math.sqrt(1 - rule.second**step))
    for i in range(0, size, LANES):
        adam_16(mem, i, size, one, two, rest_one, rest_two, keep, by, spread, eps)


# What Python calls -----------------------------------------------------------------------------------


@entry
def advance(mem, state, plan, heads, weight, rule, x, y, index, batch, first, start, stop, rates, loss, status, when):
    """Steps `start` to `stop` of every network of a chunk that still runs.

    Args:
        mem: working memory of one thread.
        state: parameters and moments `(c, S)`, padded.
        heads, weight: `(h, 4)` and `(h,)`.
        x, y: questions `(c or 1, n, d)` and targets `(c or 1, n, t)`.
        index: rows `(c, steps, batch)` asked at steps from `first` on, or none; without it step s asks rows
            `(s − first) batch` on, or all where batch is 0.
        rates: of every step.
        loss, status, when: `(c,)`, written: last loss, RUNNING, BROKEN or STOPPED, and the step of that.
    """
    size, moments = plan.size, state.shape[1] - plan.size
    asked = batch if batch else x.shape[1]
    for i in range(len(state)):
        if status[i] != RUNNING:
            continue
        at = i * state.shape[1]
        copy(mem, 0, state, at, size)
        copy(mem, 2 * size, state, at + size, moments)
        for s in range(start, stop):
            k = s - first
            begin = 0 if index.shape[1] else k * batch
            value = gradient(mem, plan, heads, weight, x, y, i, index, k, begin, asked, batch > 0 or s == start)
            loss[i] = value
            if not (np.isfinite(value) and nothing_16(mem, size, size) == 0):
                status[i], when[i] = BROKEN, s
                break
            if value <= rule.stop:
                status[i], when[i] = STOPPED, s
                break
            if rule.clip > 0:
                norm = math.sqrt(squares_16(mem, size, size))
                for j in range(size, 2 * size if norm > rule.clip else size, LANES):
                    scale_16(mem, j, j, j, np.float32(rule.clip / norm))
            update(mem, size, rule, rates[s], s + 1)
        copy(state, at, mem, 0, size)
        copy(state, at + size, mem, 2 * size, moments)


@part
def exchange(mem, at, plan, theta, n, out):
    """Between network n's row of θ `(c, p)`, layers as `(fan_out, fan_in)`, and the layout at `mem[at]`."""
    here = plan.scratch
    if not out:
        copy(mem, here, theta, n * theta.shape[1], theta.shape[1])
    for layer in range(len(plan.layers)):
        fan_in, fan_out, _, ld, w, b, _, _, _ = numbers(plan, layer)
        w, b, narrow = at + w, at + b, plan.narrow and layer == len(plan.layers) - 1
        for o in range(fan_out if narrow else 0):
            if out:
                copy(mem, here + o * fan_in, mem, w + o * ld, fan_in)
            else:
                copy(mem, w + o * ld, mem, here + o * fan_in, fan_in)
        if not narrow:
            if out:
                transpose(mem, here, fan_in, w, ld, fan_in, fan_out)
            else:
                transpose(mem, w, ld, here, fan_in, fan_out, fan_in)
        here += fan_in * fan_out
        if plan.bias:
            if out:
                copy(mem, here, mem, b, fan_out)
            else:
                copy(mem, b, mem, here, fan_out)
            here += fan_out
    if out:
        copy(theta, n * theta.shape[1], mem, plan.scratch, theta.shape[1])


@entry
def pack(mem, state, plan, theta, out):
    """θ `(c, p)` into `state` `(c, S)`, or the reverse."""
    for i in range(len(theta)):
        if out:
            copy(mem, 0, state, i * state.shape[1], plan.size)
        exchange(mem, 0, plan, theta, i, out)
        if not out:
            copy(state, i * state.shape[1], mem, 0, plan.size)


@entry
def gradients(mem, plan, heads, weight, x, y, index, theta, values, out):
    """Losses `(c,)` and gradients `(c, p)` of θ `(c, p)`, each on all of its questions; `index` is empty."""
    fresh = len(x) > 1 or len(y) > 1
    for i in range(len(theta)):
        exchange(mem, 0, plan, theta, i, False)
        values[i] = gradient(mem, plan, heads, weight, x, y, i, index, 0, 0, x.shape[1], fresh or i == 0)
        exchange(mem, plan.size, plan, out, i, True)


@intrinsic
def chains_16(typing, mem, count):
    """`count` multiply-adds on each of sixteen registers."""

    def generate(ctx, b, sig, args):
        at = _memory(ctx, b, sig, args)
        x, y = _load(b, at(_int(0))), _load(b, at(_int(LANES)))
        first = [_load(b, at(_int((r + 2) * LANES))) for r in range(16)]
        last = _loop(b, args[1], first, lambda k, chains: [_fma(b, c, x, y) for c in chains])
        for r, c in enumerate(last):
            _store(b, c, at(_int((r + 2) * LANES)))

    return types.void(mem, types.intp), generate


@entry
def fused(mem, count):
    """Nothing but multiply-adds, for the machine's peak rate; mem of 18 · LANES numbers."""
    chains_16(mem, count)


@entry
def tanh_of(mem):
    """tanh in place, of a multiple of 16 numbers: what networks compute, for those who want to check it."""
    activate(mem, 0, len(mem), False)
