"""A net of dense layers with Adam, written by hand as a NumPy user does: what programs run beside.

In float64 it is also the oracle for the losses.
"""

from __future__ import annotations

import numpy as np


class Net:
    """Dense layers with relu, the last with sigmoid (mean squared error) or softmax (labels).

    Args:
        weights: kernel, bias, kernel, bias, ...; copied.
        last: "sigmoid" or "softmax".
        dtype: to compute in.
    """

    def __init__(self, weights, last, dtype=np.float32):
        self.weights = [np.array(w, dtype) for w in weights]
        self.m = [np.zeros_like(w) for w in self.weights]
        self.v = [np.zeros_like(w) for w in self.weights]
        self.last, self.dtype, self.step = last, dtype, 0

    def loss_and_gradients(self, x, y):
        outputs = [x]
        for i in range(0, len(self.weights), 2):
            z = outputs[-1] @ self.weights[i] + self.weights[i + 1]
            outputs.append(np.maximum(z, 0) if i + 2 < len(self.weights) else z)
        if self.last == "sigmoid":
            p = 1 / (1 + np.exp(-z))
            loss = np.mean((p - y) ** 2)
            dz = 2 / p.size * (p - y) * p * (1 - p)
        else:
            e = np.exp(z - z.max(axis=1, keepdims=True))
            dz = e / e.sum(axis=1, keepdims=True)
            rows = np.arange(len(y))
            loss = -np.mean(np.log(dz[rows, y]))
            dz[rows, y] -= 1
            dz /= len(y)
        gradients = [None] * len(self.weights)
        for i in reversed(range(0, len(self.weights), 2)):
            a = outputs[i // 2]
            gradients[i], gradients[i + 1] = a.T @ dz, dz.sum(axis=0)
            if i:
                dz = (dz @ self.weights[i].T) * (a > 0)
        return loss, gradients

    def train(self, x, y):
        """One step of Adam with Keras's defaults; returns the loss before it."""
        loss, gradients = self.loss_and_gradients(x, y)
        self.step += 1
        rate = 0.001 * np.sqrt(1 - 0.999**self.step) / (1 - 0.9**self.step)
        for p, g, m, v in zip(self.weights, gradients, self.m, self.v, strict=True):
            m += (1 - 0.9) * (g - m)
            v += (1 - 0.999) * (g * g - v)
            p -= self.dtype(rate) * m / (np.sqrt(v) + self.dtype(1e-7))
        return loss

    def epoch(self, x, y, batch):
        """One pass over the rows in their order; returns the mean loss."""
        losses = [self.train(x[i : i + batch], y[i : i + batch]) for i in range(0, len(x), batch)]
        return float(np.mean(losses))
