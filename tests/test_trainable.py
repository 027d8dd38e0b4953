"""Which weights a model trains: frozen layers, nested models, GANs."""

from __future__ import annotations

import numpy as np
import pytest

from nets import draw, same_weights, stack
from ranvier import Input, Model, Sequential, layers, optimizers


def moved(model, before):
    return [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]


def test_frozen_layers_do_not_move():
    model = Sequential([Input((3,)), *stack()])
    x, y = draw(6, 3), draw(6, 2)
    model.layers[0].trainable = False
    assert [v.path for v in model.trainable_weights] == ["b/kernel", "b/bias"]
    assert [v.path for v in model.non_trainable_weights] == ["a/kernel", "a/bias"]
    for optimizer in ("sgd", "rmsprop", "adam"):
        model.compile(optimizer, "mse")
        before = model.get_weights()
        model.fit(x, y, epochs=2, batch_size=2, verbose=0)
        assert moved(model, before) == [False, False, True, True]
    model.layers[0].trainable, model.layers[1].trainable = True, False
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert moved(model, before) == [True, True, False, False]
    model.trainable = False
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert moved(model, before) == [False] * 4


def test_trainable_is_read_when_compile_is_called():
    model = Sequential([Input((3,)), *stack()])
    x, y = draw(6, 3), draw(6, 2)
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    model.layers[0].trainable = False
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert moved(model, before) == [True] * 4
    model.compile("sgd", "mse")
    model.layers[0].trainable = True
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    assert moved(model, before) == [False, False, True, True]


def test_trainable_is_read_by_compile_before_the_model_is_built():
    model = Sequential(stack())
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    model.layers[0].trainable = True
    model.predict(draw(1, 3))
    before = model.get_weights()
    model.fit(draw(6, 3), draw(6, 2), verbose=0)
    assert moved(model, before) == [False, False, True, True]


def test_trainable_reaches_into_nested_models():
    inner = Sequential([Input((3,)), *stack()])
    model = Sequential([Input((3,)), inner, layers.Dense(1)])
    inner.trainable = False
    assert not any(layer.trainable for layer in inner.layers)
    assert len(model.trainable_weights) == 2 and len(model.non_trainable_weights) == 4
    inner.trainable = True
    inner.layers[0].trainable = False
    assert len(model.trainable_weights) == 4
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.fit(draw(6, 3), draw(6, 1), verbose=0)
    assert moved(model, before) == [False, False, True, True, True, True]


def gan_parts():
    generator = Sequential([Input((2,)), layers.Dense(8, activation="relu"), layers.Dense(3)])
    discriminator = Sequential(
        [
            Input((3,)),
            layers.Dense(8, activation="leaky_relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return generator, discriminator


def gan_round(generator, discriminator, combined, toggle, step):
    """Five discriminator steps to one generator step, as in the literature; who moved when."""
    seen = []
    for i in range(5):
        z = draw(8, 2, seed=10 * step + i)
        fake, real = generator.predict(z), draw(8, 3, seed=i) + 2
        g, d = generator.get_weights(), discriminator.get_weights()
        if toggle:
            discriminator.trainable = True
        discriminator.train_on_batch(np.concatenate([fake, real]), [[0]] * 8 + [[1]] * 8)
        seen.append((any(moved(generator, g)), all(moved(discriminator, d))))
    g, d = generator.get_weights(), discriminator.get_weights()
    if toggle:
        discriminator.trainable = False
    combined.train_on_batch(draw(8, 2, seed=99 + step), np.ones((8, 1)))
    return seen, (any(moved(generator, g)), any(moved(discriminator, d)))


@pytest.mark.parametrize("toggle", [False, True], ids=["set_once", "toggled_each_step"])
def test_gan(toggle):
    """The discriminator learns by its own compiled model and stands still in the combined one."""
    generator, discriminator = gan_parts()
    discriminator.compile(optimizers.Adam(0.01), "binary_crossentropy", metrics=["accuracy"])
    discriminator.trainable = False
    z = Input((2,))
    combined = Model(z, discriminator(generator(z)))
    combined.compile(optimizers.Adam(0.01), "binary_crossentropy")
    for step in range(3):
        steps, last = gan_round(generator, discriminator, combined, toggle, step)
        assert steps == [(False, True)] * 5
        assert last == (True, False)


def test_both_gan_idioms_give_the_same_bits():
    def train(toggle):
        from ranvier import utils

        utils.set_random_seed(3)
        generator, discriminator = gan_parts()
        discriminator.compile(optimizers.Adam(0.01), "binary_crossentropy")
        discriminator.trainable = False
        combined = Sequential([generator, discriminator])
        combined.compile(optimizers.Adam(0.01), "binary_crossentropy")
        for step in range(3):
            gan_round(generator, discriminator, combined, toggle, step)
        return combined.get_weights()

    assert same_weights(train(False), train(True))


def test_a_gan_of_one_step_against_numpy():
    """The generator's gradient runs through the frozen discriminator; the combined model's step
    is that of the same net trained whole, generator's part only."""
    generator, discriminator = gan_parts()
    whole = Sequential([generator, discriminator])
    whole.compile(optimizers.SGD(0.1), "binary_crossentropy")
    z, ones = draw(8, 2), np.ones((8, 1))
    before = whole.get_weights()
    whole.train_on_batch(z, ones)
    expected = whole.get_weights()
    whole.set_weights(before)
    discriminator.trainable = False
    combined = Sequential([generator, discriminator])
    combined.compile(optimizers.SGD(0.1), "binary_crossentropy")
    combined.train_on_batch(z, ones)
    assert same_weights(combined.get_weights()[:4], expected[:4])
    assert same_weights(combined.get_weights()[4:], before[4:])


def test_a_layer_added_after_compile_is_trained():
    model = Sequential([Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    model.add(layers.Dense(2))
    before = model.get_weights()
    model.fit(draw(6, 3), draw(6, 2), verbose=0)
    assert moved(model, before) == [True] * 4
