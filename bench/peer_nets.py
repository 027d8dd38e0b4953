"""The same nets on PyTorch and on JAX, each in a form that is fast for small models: a loop on
PyTorch, the whole epoch under `lax.scan` on JAX. The packages are given by the caller."""

from __future__ import annotations

import numpy as np


def with_torch(torch, weights, last, x, y, batch, epochs, **options):
    """The function that trains for some more epochs and returns their losses.

    The options are for Adam.
    """
    nn, functional = torch.nn, torch.nn.functional
    stack = []
    for i in range(0, len(weights), 2):
        kernel, bias = weights[i : i + 2]
        layer = nn.Linear(*kernel.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(kernel.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
        stack += [layer, nn.ReLU()]
    stack[-1:] = [nn.Sigmoid()] if last == "sigmoid" else []  # cross_entropy takes logits
    model = nn.Sequential(*stack)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, **options)
    xs, ys = torch.from_numpy(x), torch.from_numpy(np.asarray(y))
    batches = [(xs[i : i + batch], ys[i : i + batch]) for i in range(0, len(x), batch)]
    loss_of = functional.mse_loss if last == "sigmoid" else functional.cross_entropy

    def epoch():
        total = 0.0
        for a, b in batches:
            optimizer.zero_grad()
            loss = loss_of(model(a), b)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(a)
        return float(total) / len(x)

    return lambda: [epoch() for _ in range(epochs)]


def with_jax(jax, weights, last, x, y, batch, epochs):
    """The function that trains for some more epochs and returns their losses."""
    jnp, tree = jax.numpy, jax.tree
    steps = len(x) // batch
    xs = jnp.array(x[: steps * batch]).reshape(steps, batch, -1)
    ys = jnp.array(y[: steps * batch]).reshape(steps, batch, *np.shape(y)[1:])

    def loss_of(p, a, b):
        for i in range(0, len(p), 2):
            z = a @ p[i] + p[i + 1]
            a = jax.nn.relu(z)
        if last == "sigmoid":
            return jnp.mean((jax.nn.sigmoid(z) - b) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), b[:, None], 1))

    def step(carry, row):
        p, m, v, t = carry
        loss, g = jax.value_and_grad(loss_of)(p, *row)
        t = t + 1
        m = tree.map(lambda m, g: m + 0.1 * (g - m), m, g)
        v = tree.map(lambda v, g: v + 0.001 * (g * g - v), v, g)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        p = tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), p, m, v)
        return (p, m, v, t), loss

    epoch = jax.jit(lambda carry: jax.lax.scan(step, carry, (xs, ys)))
    p = [jnp.array(w) for w in weights]
    zeros = tree.map(jnp.zeros_like, p)
    state = [(p, zeros, zeros, jnp.array(0))]

    def run():
        losses = []
        for _ in range(epochs):
            state[0], each = epoch(state[0])
            losses.append(float(each.mean()))
        return losses

    return run
