"""Run as a program: every op of `ranvier.ops` against the oracle, on the tier of RANVIER_ISA.

Prints, as JSON, the tier that dispatch chose, the one compiled into the kernels that ran, the
number of results compared, and digests of one dropout mask and of all results. `test_tiers.py` runs
it once for each tier that this CPU supports, and with other numbers of threads.
"""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np

import reference
from cases import (
    DTYPES,
    MERGE_SHAPES,
    TIER_CONV_CASES,
    TIER_DENSE_SHAPES,
    TIER_POOL_CASES,
    TIER_ROW_SHAPES,
    Output,
    afloat,
    assert_close,
)
from ranvier import _core, ops
from ranvier._core import Buffer

compared = 0
digest = hashlib.sha256()


def same(actual, expected, kind, dtype, terms=1):
    """`actual` agrees with the oracle; its bits go into the digest."""
    global compared
    assert_close(actual, expected, kind, dtype=dtype, terms=terms)
    digest.update(actual)
    compared += 1


def normal(r, shape, dtype, width=1.0):
    return afloat(r.normal(0, width, shape).astype(dtype))


def check_dense(r, dtype):
    for m, k, n in TIER_DENSE_SHAPES:
        x, b, dy = normal(r, (m, k), dtype), normal(r, n, dtype), normal(r, (m, n), dtype)
        w = normal(r, (k, n), dtype, 1 / np.sqrt(k))
        for name in reference.ACTIVATIONS:
            out = Output((m, n), dtype)
            y = ops.dense(x, w, b, activation=name, out=out.array)
            out.assert_intact()
            same(y, reference.dense(x, w, b, activation=name), "product", dtype, k)
            got = ops.dense_backward(dy, x, y, w, b, activation=name)
            expected = reference.dense_backward(dy, x, y, w, b, activation=name)
            for g, e, terms in zip(got, expected, (n, m, m), strict=True):
                same(g, e, "product", dtype, terms)
    for m in (3, 16, 33, 260):  # dots; some rows, turned over; a product of many
        x, w, dy = (
            normal(r, (300, m), dtype).T,
            normal(r, (203, 300), dtype).T,
            normal(r, (m, 203), dtype),
        )
        y = ops.dense(x, w, activation="relu")
        same(y, reference.dense(x, w, activation="relu"), "product", dtype, 300)
        got = ops.dense_backward(dy, x, y, w, activation="relu")
        expected = reference.dense_backward(dy, x, y, w, activation="relu")
        for g, e, terms in zip(got[:2], expected[:2], (203, m), strict=True):
            same(g, e, "product", dtype, terms)


def check_conv(r, dtype):
    for x_shape, w_shape, options in TIER_CONV_CASES:
        depth = int(np.prod(w_shape[:3]))
        x, b = normal(r, x_shape, dtype), normal(r, w_shape[3], dtype)
        w = normal(r, w_shape, dtype, 1 / np.sqrt(depth))
        for name in ("linear", "relu", "tanh"):
            call = {"activation": name, **options}
            expected = reference.conv2d(x, w, b, **call)
            out = Output(expected.shape, dtype)
            y = ops.conv2d(x, w, b, **call, out=out.array)
            out.assert_intact()
            same(y, expected, "product", dtype, depth)
            dy = normal(r, y.shape, dtype)
            got = ops.conv2d_backward(dy, x, y, w, b, **call)
            expected = reference.conv2d_backward(dy, x, y, w, b, **call)
            pixels = dy.size // dy.shape[-1]
            for g, e, terms in zip(
                got, expected, (w.size // x_shape[3], pixels, pixels), strict=True
            ):
                same(g, e, "product", dtype, terms)
            if name == "tanh" or min(y.shape[1:3]) < 2:
                continue
            pooled, where = ops.conv2d_max_pool(x, w, b, **call)
            same(pooled, reference.max_pool(y, 2), "copy", dtype)
            dy = normal(r, pooled.shape, dtype)
            got = ops.conv2d_max_pool_backward(dy, x, pooled, where, w, b, **call)
            through = ops.max_pool_backward(dy, y, where, 2)
            for g, e in zip(got, ops.conv2d_backward(through, x, y, w, b, **call), strict=True):
                same(g, e, "copy", dtype)
    x, w = normal(r, (2, 5, 6, 17), dtype), normal(r, (4, 4, 19, 17), dtype, 1 / 16)
    y = ops.conv2d_transpose(x, w, strides=2, padding="same")
    expected = reference.conv2d_transpose(x, w, strides=2, padding="same")
    same(y, expected, "product", dtype, 4 * 17)


def check_winograd(r, dtype):
    """The convolutions of 3x3 and 5x5 again, by tiles wherever that is possible."""
    _core.set_winograd("always")
    check_conv(r, dtype)
    _core.set_winograd("auto")


def check_activation(r, dtype):
    for shape in TIER_ROW_SHAPES:
        x, dy = normal(r, shape, dtype, 4.0), normal(r, shape, dtype)
        for name in reference.ACTIVATIONS:
            kind = "reduction" if name == "softmax" else "transcendental"
            out = Output(shape, dtype)
            y = ops.activation(x, name, out=out.array)
            out.assert_intact()
            same(y, reference.activation(x, name), kind, dtype, shape[-1])
            dx = ops.activation_backward(dy, x, y, name)
            same(dx, reference.activation_backward(dy, x, y, name), kind, dtype, shape[-1])
        y = ops.softmax(x)
        same(y, reference.softmax(x), "reduction", dtype, shape[-1])
        dx = ops.softmax_backward(dy, y)
        same(dx, reference.softmax_backward(dy, y), "reduction", dtype, shape[-1])


def check_functions(r, dtype):
    """Over the whole range; how exact they are, test_functions.py tells."""
    x = np.concatenate([normal(r, 999, dtype, width) for width in (1e-3, 1, 30, 1e3, 1e12)])
    for name in ("exp", "expm1", "sin", "cos", "tanh"):
        with np.errstate(over="ignore"):
            expected = getattr(np, name)(x.astype(np.float64)).astype(dtype)
        same(getattr(ops, name)(x), expected, "transcendental", dtype)
    for name in ("log", "log1p"):
        expected = getattr(np, name)(abs(x).astype(np.float64))
        same(getattr(ops, name)(abs(x)), expected, "transcendental", dtype)
    same(ops.erf(x), [math.erf(v) for v in x], "transcendental", dtype)


def check_losses(r, dtype):
    for shape in TIER_ROW_SHAPES:
        logits = normal(r, shape, dtype, 3.0)
        p, t = (afloat(a.astype(dtype)) for a in r.uniform(0.02, 0.98, (2, *shape)))
        labels = r.integers(0, shape[-1], shape[:-1])
        for name, y_true, y_pred, options in [
            ("mean_squared_error", t, logits, {}),
            ("mean_absolute_error", t, logits, {}),
            ("binary_crossentropy", t, p, {}),
            ("binary_crossentropy", t, logits, {"from_logits": True}),
            ("categorical_crossentropy", t, p, {}),
            ("categorical_crossentropy", t, logits, {"from_logits": True}),
            ("sparse_categorical_crossentropy", labels, p, {}),
            ("sparse_categorical_crossentropy", labels, logits, {"from_logits": True}),
        ]:
            loss, gradient = getattr(ops, name)(y_true, y_pred, gradient=True, **options)
            expected = getattr(reference, name)(y_true, y_pred, gradient=True, **options)
            same(dtype(loss), expected[0], "reduction", dtype, p.size)
            same(gradient, expected[1], "reduction", dtype, shape[-1])


def check_optimizers(r, dtype):
    for shape in TIER_ROW_SHAPES:
        for name, state, options in [
            ("sgd", (), {}),
            ("sgd", ("velocity",), {"momentum": 0.9}),
            ("sgd", ("velocity",), {"momentum": 0.9, "nesterov": True}),
            ("rmsprop", ("v",), {}),
            ("rmsprop", ("v", "velocity"), {"momentum": 0.9}),
            ("adam", ("m", "v"), {"step": 3}),
            ("sgd", (), {"weight_decay": 0.5}),
            ("rmsprop", ("v",), {"weight_decay": 0.5}),
            ("adam", ("m", "v"), {"step": 3, "weight_decay": 0.5}),
        ]:
            arrays = {key: np.abs(normal(r, shape, dtype)) + dtype(0.1) for key in state}
            arrays |= {"p": normal(r, shape, dtype), "g": normal(r, shape, dtype)}
            expected = getattr(reference, name)(**arrays, **options)
            getattr(ops, name)(**arrays, **options)
            for key, e in zip(("p", *state), expected, strict=False):
                same(arrays[key], e, "elementwise", dtype)
    for limit in (0.5, 1e3):
        gs = [normal(r, shape, dtype) for shape in TIER_ROW_SHAPES]
        several, single = ([Buffer.from_array(g) for g in gs] for _ in range(2))
        _core.clip_by_norm(several, limit)
        for g in single:
            _core.clip_by_value(g, limit)
        for buffers, how in ((several, "global_clipnorm"), (single, "clipvalue")):
            expected = reference.clipped(gs, **{how: limit})
            for g, e in zip(buffers, expected, strict=True):
                same(g.numpy(), e, "reduction", dtype, sum(h.size for h in gs))


def check_data(r, dtype):
    for shape in TIER_ROW_SHAPES:
        x, dy = normal(r, shape, dtype), normal(r, shape, dtype)
        scale, offset = normal(r, shape[-1], dtype), normal(r, shape[-1], dtype)
        same(ops.affine(x, scale, offset), reference.affine(x, scale, offset), "elementwise", dtype)
        same(ops.affine_backward(dy, scale), dy * scale.astype(float), "elementwise", dtype)
        keep = ops.dropout(np.ones(shape, dtype), 0.4, seed=1, counter=2) != 0
        y = ops.dropout(x, 0.4, seed=1, counter=2)
        same(y, reference.dropout(x, 0.4, keep), "elementwise", dtype)
        dx = ops.dropout_backward(dy, 0.4, seed=1, counter=2)
        same(dx, reference.dropout_backward(dy, 0.4, keep), "elementwise", dtype)
        indices = r.integers(0, shape[0], 5)
        for source in (np.bool_, np.uint8, np.int64, np.float16, np.float32, np.float64):
            rows = r.integers(0, 100, shape).astype(source)
            got = ops.gather(rows, indices, dtype=dtype)
            same(got, reference.gather(rows, indices, dtype=dtype), "copy", dtype)


def check_merge(r, dtype):
    for a_shape, b_shape in MERGE_SHAPES:
        a, b = normal(r, a_shape, dtype), normal(r, b_shape, dtype)
        for how in reference.MERGES:
            y = ops.merge(a, b, how)
            same(y, reference.merge(a, b, how), "elementwise", dtype)
            dy = normal(r, y.shape, dtype)
            got = ops.merge_backward(dy, a, b, how)
            for g, e in zip(got, reference.merge_backward(dy, a, b, how), strict=True):
                same(g, e, "reduction", dtype, max(1, dy.size // max(1, e.size)))
    for axes in ((1, 1), (1, 2), (2, 1), (2, 2)):
        a_shape, b_shape = [3, 13, 13], [3, 31, 31]
        a_shape[axes[0]] = b_shape[axes[1]] = 17
        a, b = normal(r, a_shape, dtype), normal(r, b_shape, dtype)
        y = ops.dot(a, b, axes)
        same(y, reference.dot(a, b, axes), "product", dtype, 17)
        dy = normal(r, y.shape, dtype)
        got = ops.dot_backward(dy, a, b, axes)
        for g, e in zip(got, reference.dot_backward(dy, a, b, axes), strict=True):
            same(g, e, "product", dtype, 31)
    xs = [normal(r, (5, n, 3), dtype) for n in (1, 7, 16)]
    same(ops.concatenate(xs, 1), np.concatenate(xs, 1), "copy", dtype)
    x = normal(r, (3, 35, 2, 67), dtype)
    for axes in ((3, 0, 1, 2), (0, 3, 1, 2), (0, 2, 1, 3), (3, 2, 1, 0)):
        same(ops.transpose(x, axes), x.transpose(axes), "copy", dtype)


def check_yardstick(r, dtype):
    y = np.empty(3, dtype)
    _core.peak(y, 64, 1.0, 0.5, 1.0)
    same(y, np.full(3, 2.0), "copy", dtype)  # every chain has reached the point that stays
    for shape in ((1,), (33,), (7, 1009)):
        a, b = normal(r, shape, dtype), normal(r, shape, dtype)
        same(_core.triad(a, b, 2.0, 2, None), a + 2.0 * b.astype(float), "reduction", dtype)


def check_augment(r, dtype):
    x = normal(r, (3, 11, 9, 5), dtype)
    matrices = np.array([1, 0, 0, 0, 1, 0]) + r.normal(0, 0.3, (3, 6))
    for interpolation in ("bilinear", "nearest"):
        for fill in ("constant", "nearest", "reflect", "wrap"):
            how = {"interpolation": interpolation, "fill_mode": fill}
            y = ops.resample(x, matrices, (7, 13), **how)
            same(y, reference.resample(x, matrices, (7, 13), **how), "reduction", dtype, 4)
            dx = ops.resample_backward(y, matrices, x.shape, **how)
            e = reference.resample_backward(y, matrices, x.shape, **how)
            same(dx, e, "reduction", dtype, 16)
    key = _core.Buffer.from_array(np.array([7, 3], np.uint64))
    for move in ("flip", "shift", "rotate", "zoom", "crop"):
        moves = _core.draw_moves(key, move, 9, (11, 9), (5, 4), (-0.3, 0.4, -0.1, 0.2), False)
        digest.update(moves.numpy())
    digest.update(_core.draw_uniform(key, (9,), dtype, -1.0, 3.0).numpy())


def check_norm(r, dtype):
    for shape in ((7, 3), (33, 17), (4, 6, 5, 33), (64, 1), (9, 40, 40, 24)):  # the last: threads
        x, dy = normal(r, shape, dtype), normal(r, shape, dtype)
        gamma, beta = normal(r, shape[-1], dtype) + dtype(2), normal(r, shape[-1], dtype)
        n = x.size // shape[-1]
        for call in (
            {"activation": "linear"},
            {"activation": "relu"},
            {"mean": beta, "variance": gamma * gamma, "activation": "relu"},
        ):
            y, statistics = ops.batch_normalization(x, gamma, beta, **call)
            expected = reference.batch_normalization(x, gamma, beta, **call)
            same(y, expected, "reduction", dtype)
            # near the kink rounding decides about the slope: there are no gradients
            straight = {**call, "activation": "linear"}
            linear = reference.batch_normalization(x, gamma, beta, **straight)
            away = np.where(np.abs(linear) > 1e-4, dy, 0).astype(dtype)
            got = ops.batch_normalization_backward(
                away, x, statistics, gamma, beta, given="mean" in call,
                activation=call["activation"],
            )  # fmt: skip
            expected = reference.batch_normalization_backward(away, x, gamma, beta, **call)
            for g, e, terms in zip(got, expected, (2, n, n), strict=True):
                same(g, e, "reduction", dtype, terms)


def check_pool(r, dtype):
    for shape, *window in TIER_POOL_CASES:
        x = normal(r, shape, dtype)
        y, where = ops.max_pool(x, *window, argmax=True)
        same(y, reference.max_pool(x, *window), "copy", dtype)
        dy = normal(r, y.shape, dtype)
        got = ops.max_pool_backward(dy, x, where, *window)
        same(got, reference.max_pool_backward(dy, x, None, *window), "elementwise", dtype)
        terms = int(np.prod(window[0])) ** (len(shape) - 2)
        y = ops.average_pool(x, *window)
        same(y, reference.average_pool(x, *window), "reduction", dtype, terms)
        got = ops.average_pool_backward(dy, x, *window)
        same(got, reference.average_pool_backward(dy, x, *window), "reduction", dtype, terms)
        # through the activation below, where x is one's output
        below = ops.activation(Buffer.from_array(x), "tanh")
        y, where = ops.max_pool(below, *window, argmax=True)
        through = ops.max_pool_backward(Buffer.from_array(dy), below, where, *window, y=y).view()
        f = below.view()
        expected = reference.max_pool_backward(dy, f, None, *window) * (1 - f.astype(float) ** 2)
        same(through, expected, "reduction", dtype, terms)


def check_large(r, dtype):
    """Sizes that are split among threads."""
    m, k, n = 257, 301, 129
    x, b, dy = normal(r, (m, k), dtype), normal(r, n, dtype), normal(r, (m, n), dtype)
    w = normal(r, (k, n), dtype, 1 / np.sqrt(k))
    y = ops.dense(x, w, b, activation="tanh")
    same(y, reference.dense(x, w, b, activation="tanh"), "product", dtype, k)
    got = ops.dense_backward(dy, x, y, w, b, activation="tanh")
    expected = reference.dense_backward(dy, x, y, w, b, activation="tanh")
    for g, e, terms in zip(got, expected, (n, m, m), strict=True):
        same(g, e, "product", dtype, terms)

    x, dy = normal(r, (4101, 37), dtype), normal(r, (4101, 21), dtype)
    w, b = normal(r, (37, 21), dtype, 1 / 6), normal(r, 21, dtype)
    y = ops.dense(x, w, b, activation="tanh")  # many rows through a small kernel
    same(y, reference.dense(x, w, b, activation="tanh"), "product", dtype, 37)
    got = ops.dense_backward(dy, x, y, w, b, activation="tanh")
    expected = reference.dense_backward(dy, x, y, w, b, activation="tanh")
    for g, e, terms in zip(got, expected, (21, 4101, 4101), strict=True):
        same(g, e, "product", dtype, terms)

    x, dy = normal(r, (5, 2111), dtype), normal(r, (5, 1009), dtype)
    w = normal(r, (2111, 1009), dtype, 1 / 46)
    got = ops.dense_backward(dy, x, None, w)  # few rows through a large kernel
    for g, e, terms in zip(
        got, reference.dense_backward(dy, x, None, w), (1009, 5, 5), strict=False
    ):
        if e is not None:
            same(g, e, "product", dtype, terms)

    for m, k, n in ((5, 2111, 1009), (6, 261, 2048), (30, 261, 2048)):  # by rows, or packed
        x, w, b = normal(r, (m, k), dtype), normal(r, (k, n), dtype, 1 / 32), normal(r, n, dtype)
        y = ops.dense(x, w, b, activation="relu")
        same(y, reference.dense(x, w, b, activation="relu"), "product", dtype, k)

    shape = (513, 1009)
    x, dy = normal(r, shape, dtype), normal(r, shape, dtype)
    for name, kind in (
        ("silu", "transcendental"),
        ("gelu", "transcendental"),
        ("softmax", "reduction"),
    ):
        y = ops.activation(x, name)
        same(y, reference.activation(x, name), kind, dtype, shape[-1])
        dx = ops.activation_backward(dy, x, y, name)
        same(dx, reference.activation_backward(dy, x, y, name), kind, dtype, shape[-1])
    labels = r.integers(0, shape[-1], shape[0])
    for name, y_true, options in [
        ("mean_squared_error", dy, {}),
        ("sparse_categorical_crossentropy", labels, {"from_logits": True}),
    ]:
        loss, gradient = getattr(ops, name)(y_true, x, gradient=True, **options)
        expected = getattr(reference, name)(y_true, x, gradient=True, **options)
        same(dtype(loss), expected[0], "reduction", dtype, x.size)
        same(gradient, expected[1], "reduction", dtype, shape[-1])
    arrays = {"p": x.copy(), "g": dy, "m": np.zeros_like(x), "v": np.zeros_like(x)}
    expected = reference.adam(**arrays, step=1)
    ops.adam(**arrays, step=1)
    for key, e in zip("pmv", expected, strict=True):
        same(arrays[key], e, "elementwise", dtype)
    keep = ops.dropout(np.ones(shape, dtype), 0.4, seed=1) != 0
    same(ops.dropout(x, 0.4, seed=1), reference.dropout(x, 0.4, keep), "elementwise", dtype)
    same(ops.merge(x, dy, "multiply"), reference.merge(x, dy, "multiply"), "elementwise", dtype)
    column = x[:1].copy()
    got = ops.merge_backward(dy, x, column, "multiply")
    for g, e in zip(got, reference.merge_backward(dy, x, column, "multiply"), strict=True):
        same(g, e, "reduction", dtype, shape[0])
    same(ops.concatenate([x, dy]), np.concatenate([x, dy], -1), "copy", dtype)
    indices = r.permutation(shape[0])
    same(ops.gather(x, indices, dtype=dtype), x[indices], "copy", dtype)


def mask_digest():
    """The dropout mask must not depend on the tier."""
    keep = ops.dropout(np.ones(1009, np.float32), 0.5, seed=7, counter=3) != 0
    return hashlib.sha256(keep).hexdigest()


def main():
    global digest
    results = {}
    for dtype in DTYPES:
        for check in (
            check_dense,
            check_conv,
            check_winograd,
            check_activation,
            check_functions,
            check_losses,
            check_optimizers,
            check_data,
            check_merge,
            check_augment,
            check_yardstick,
            check_norm,
            check_pool,
            check_large,
        ):
            digest = hashlib.sha256()
            name = check.__name__  # a new case of one changes no data of the others
            check(np.random.default_rng([1, *name.encode()]), dtype)
            results[f"{name} {np.dtype(dtype)}"] = digest.hexdigest()
    report = {
        "isa": _core.isa(),
        "kernel_isa": _core.kernel_isa(),
        "compared": compared,
        "mask": mask_digest(),
        "results": results,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
