"""Convolutional nets through `fit` beside Keras on TensorFlow and PyTorch, from equal weights.

Times are of one step with Adam. PyTorch is taken in the faster of its two layouts.
"""

from __future__ import annotations

import os
import warnings
from time import perf_counter

import numpy as np
from works import Work, beside, torch_of

import ranvier


class FitImages(Work):
    """Training of 3x3 convolutions with relu, pooled by twos, and dense layers with softmax.

    Args:
        name: in the table.
        size: of the images, (height, width, channels).
        stack: numbers of filters, "pool", and "flatten" or "average" (over the image); numbers
            behind that are of dense layers, the last of classes.
        batch: rows of a step.
        steps: in one run.
    """

    def __init__(self, name, size, stack, batch, steps):
        self.name, self.size, self.stack = name, size, stack
        self.batch, self.steps = batch, steps
        self.classes = stack[-1]

    def draw(self):
        r = np.random.default_rng(0)
        rows = self.batch * self.steps
        return r.random((rows, *self.size), np.float32), r.integers(0, self.classes, rows)

    def weights(self):
        """As Keras starts them, with its shapes; of biases no two are equal."""
        r, arrays = np.random.default_rng(1), []
        (height, width, channels), flat = self.size, False
        for item in self.stack:
            if item == "pool":
                height, width = height // 2, width // 2
            elif isinstance(item, str):
                channels, flat = channels * (height * width if item == "flatten" else 1), True
            else:
                window = () if flat else (3, 3)
                limit = np.sqrt(6 / (np.prod(window) * (channels + item)))
                arrays += [r.uniform(-limit, limit, (*window, channels, item)), r.random(item) / 10]
                channels = item
        return [a.astype(np.float32) for a in arrays]

    def oracle(self):
        x, y = self.draw()
        ranvier.set_floatx("float64")
        run = self.ranvier(x, y)
        ranvier.set_floatx("float32")
        return run()

    def prepare(self, who):
        run = getattr(self, who)(*self.draw())
        np.testing.assert_allclose(run(), self.answers(), rtol=1e-2)
        return run

    def fit(self, library, x, y):
        layers, flat = library.layers, False
        model = library.Sequential([library.Input(self.size)])
        for i, item in enumerate(self.stack):
            if item == "pool":
                model.add(layers.MaxPooling2D())
            elif isinstance(item, str):
                flat = True
                average = item == "average"
                model.add(layers.GlobalAveragePooling2D() if average else layers.Flatten())
            elif flat:
                last = i == len(self.stack) - 1
                model.add(layers.Dense(item, activation="softmax" if last else "relu"))
            else:
                model.add(layers.Conv2D(item, 3, padding="same", activation="relu"))
        model.compile("adam", "sparse_categorical_crossentropy")
        model.set_weights(self.weights())
        options = {"batch_size": self.batch, "shuffle": False, "verbose": 0}
        return lambda: model.fit(x, y, **options).history["loss"]

    def ranvier(self, x, y):
        return self.fit(ranvier, x, y)

    def keras(self, x, y):
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a peer says while it is imported
            import keras

        return self.fit(keras, x, y)

    def torch(self, x, y):
        def timed(last):
            run = self.with_torch(x, y, last)
            start = perf_counter()
            run()
            return perf_counter() - start

        timed(False)  # the first of all takes longer
        return self.with_torch(x, y, timed(True) < timed(False))

    def with_torch(self, x, y, last):
        torch, x, y = torch_of(x.transpose(0, 3, 1, 2).copy(), y, gradients=True)
        nn, stack, weights, flat = torch.nn, [], iter(self.weights()), False
        (height, width, channels), order = self.size, None
        for item in self.stack:
            if item == "pool":
                stack.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            elif isinstance(item, str):
                stack += [nn.AdaptiveAvgPool2d(1)] if item == "average" else []
                stack.append(nn.Flatten())
                flat = True
                if item == "flatten":  # there the channels come first
                    order = np.arange(height * width * channels).reshape(-1, channels).T.ravel()
            else:
                kernel, bias = next(weights), next(weights)
                if flat:
                    layer = nn.Linear(len(kernel), item)
                    kernel, order = (kernel if order is None else kernel[order]).T, None
                else:
                    layer = nn.Conv2d(channels, item, 3, padding=1)
                    kernel, channels = kernel.transpose(3, 2, 0, 1), item
                with torch.no_grad():
                    layer.weight.copy_(torch.from_numpy(kernel.copy()))
                    layer.bias.copy_(torch.from_numpy(bias))
                stack += [layer, nn.ReLU()]
        layout = torch.channels_last if last else torch.contiguous_format
        model = nn.Sequential(*stack[:-1]).to(memory_format=layout)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        parts = [slice(i, i + self.batch) for i in range(0, len(x), self.batch)]
        batches = [(x[p].contiguous(memory_format=layout), y[p]) for p in parts]

        def run():
            total = 0.0
            for a, b in batches:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(a), b)
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            return [total / len(batches)]

        return run


SMALL = (32, 64, "pool", 128, "pool", "flatten", 128, 10)
LARGE = (32, 64, "pool", 128, "pool", 256, "average", 1000)


@beside(
    FitImages("CNN, 28x28x1, batch 32", (28, 28, 1), SMALL, batch=32, steps=10),
    FitImages("CNN, 224x224x3, batch 8", (224, 224, 3), LARGE, batch=8, steps=2),
)
def test_fit(measure, work, who):
    measure(work, who)
