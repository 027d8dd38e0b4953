"""The classes of a textbook, written out: neurons, layers, activations, a loss, gradient descent.

Nothing here is a framework: the arithmetic is that of `ranvier.ops`, plain functions on NumPy
arrays. A net of these classes learns XOR, and its gradients are compared with central differences.

    python examples/textbook.py
"""

from __future__ import annotations

import argparse

import numpy as np

from ranvier import ops


class Activation:
    """y = f(x), and dx = dy f'(x)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, x):
        self.x, self.y = x, ops.activation(x, self.name)
        return self.y

    def backward(self, dout):
        return ops.activation_backward(dout, self.x, self.y, self.name)


class Neuron:
    """f(x . weights + bias), one number for each row of x."""

    def __init__(self, weights, bias, activation: Activation) -> None:
        self.weights, self.bias, self.activation = weights, bias, activation

    def forward(self, x):
        return self.activation.forward(ops.dense(x, self.weights[:, None], self.bias))[:, 0]


class Layer:
    """Neurons side by side: each one's weights are a column of one matrix, so that a single product
    serves them all."""

    def __init__(self, inputs: int, neurons: int, activation: str, random) -> None:
        self.weights = random.normal(0, 1 / np.sqrt(inputs), (inputs, neurons))
        self.bias = np.zeros(neurons)
        self.activation = Activation(activation)
        # Views: when the matrix learns, so do the neurons.
        self.neurons = [
            Neuron(self.weights[:, i], self.bias[i : i + 1], Activation(activation))
            for i in range(neurons)
        ]

    def forward(self, x):
        self.x = x
        return self.activation.forward(ops.dense(x, self.weights, self.bias))

    def backward(self, dout):
        dz = self.activation.backward(dout)
        dx, *self.gradients = ops.dense_backward(dz, self.x, None, self.weights, self.bias)
        return dx


class MeanSquaredError:
    """The mean of (y_pred - y_true)^2."""

    def forward(self, y_true, y_pred) -> float:
        loss, self.gradient = ops.mean_squared_error(y_true, y_pred, gradient=True)
        return loss

    def backward(self, dout: float = 1.0):
        return dout * self.gradient


class GradientDescent:
    """w -= learning_rate * gradient, in place."""

    def update_weights(self, weights, gradients, learning_rate: float) -> None:
        for w, gradient in zip(weights, gradients, strict=True):
            ops.sgd(w, gradient, learning_rate=learning_rate)


class Network:
    def __init__(self, layers: list[Layer]) -> None:
        self.layers, self.loss = layers, MeanSquaredError()

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def gradients(self, x, y_true):
        """The loss, and its derivative by each array of `weights`."""
        loss = self.loss.forward(y_true, self.forward(x))
        dout = self.loss.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return loss, [g for layer in self.layers for g in layer.gradients]

    @property
    def weights(self):
        return [w for layer in self.layers for w in (layer.weights, layer.bias)]


def gradient_error(network: Network, x, y_true, step: float = 1e-6) -> float:
    """The largest difference to (loss(w + step) - loss(w - step)) / (2 step), relative to the
    largest derivative."""
    _, gradients = network.gradients(x, y_true)
    worst = 0.0
    for w, gradient in zip(network.weights, gradients, strict=True):
        for i in np.ndindex(w.shape):
            value, losses = w[i], []
            for w[i] in (value + step, value - step):
                losses.append(network.loss.forward(y_true, network.forward(x)))
            w[i] = value
            worst = max(worst, abs((losses[0] - losses[1]) / (2 * step) - gradient[i]))
    return worst / max(np.abs(g).max() for g in gradients)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Textbook classes on ranvier.ops learn XOR.")
    parser.add_argument("--steps", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--learning-rate", type=float, default=1.0, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="500 steps only")
    options = parser.parse_args(argv)
    steps = 500 if options.quick else options.steps

    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y_true = np.array([[0.0], [1.0], [1.0], [0.0]])
    random = np.random.default_rng(options.seed)
    network = Network([Layer(2, 4, "tanh", random), Layer(4, 1, "sigmoid", random)])
    descent = GradientDescent()

    print(f"gradients differ from central differences by {gradient_error(network, x, y_true):.1e}")
    for step in range(steps + 1):
        loss, gradients = network.gradients(x, y_true)
        if step % max(1, steps // 5) == 0:
            print(f"step {step:5d}   loss {loss:.5f}")
        descent.update_weights(network.weights, gradients, options.learning_rate)

    hidden = network.layers[0]
    alone = np.stack([neuron.forward(x) for neuron in hidden.neurons], axis=1)
    print(f"a layer is its neurons: differ by {np.abs(alone - hidden.forward(x)).max():.1e}")
    for row, (truth,), (guess,) in zip(x, y_true, network.forward(x), strict=True):
        print(f"{row[0]:.0f} xor {row[1]:.0f} = {truth:.0f}   the net says {guess:.3f}")


if __name__ == "__main__":
    main()
