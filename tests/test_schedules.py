"""Schedules: their formulas beside Keras's, and the steps that follow them, recorded or not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import ranvier
from nets import bits, draw, mlp, refused, state
from ranvier import Variable, optimizers, training
from ranvier.optimizers import schedules

CASES = {
    "exponential": ("ExponentialDecay", dict(decay_steps=7, decay_rate=0.9)),
    "exponential_stairs": (
        "ExponentialDecay",
        dict(decay_steps=7, decay_rate=0.5, staircase=True),
    ),
    "inverse": ("InverseTimeDecay", dict(decay_steps=3, decay_rate=0.5)),
    "inverse_stairs": ("InverseTimeDecay", dict(decay_steps=3, decay_rate=0.5, staircase=True)),
    "line": ("PolynomialDecay", dict(decay_steps=20)),
    "square": ("PolynomialDecay", dict(decay_steps=20, end_learning_rate=0.01, power=2.0)),
    "cycle": ("PolynomialDecay", dict(decay_steps=8, power=0.5, cycle=True)),
    "cosine": ("CosineDecay", dict(decay_steps=25)),
    "cosine_alpha": ("CosineDecay", dict(decay_steps=10, alpha=0.1)),
    "warmup": ("CosineDecay", dict(decay_steps=20, warmup_target=0.3, warmup_steps=9)),
    "no_warmup": ("CosineDecay", dict(decay_steps=20, warmup_steps=9)),
    "warmup_of_nothing": ("CosineDecay", dict(decay_steps=20, warmup_target=0.3)),
    "pieces": ("PiecewiseConstantDecay", dict(boundaries=[4, 5, 20], values=[0.2, 0.1, 0.3, 0.0])),
}
every_case = pytest.mark.parametrize("name", CASES)


def made(library, name):
    kind, options = CASES[name]
    if kind != "PiecewiseConstantDecay":
        options = {"initial_learning_rate": 0.2, **options}
    return getattr(library.optimizers.schedules, kind)(**options)


class Own(schedules.LearningRateSchedule):
    """Of one step at a time; the last is the seventh."""

    rates_of = (0.1, 0.0, 0.3, 0.2, 0.1, 0.4, 0.05)

    def __call__(self, step):
        return self.rates_of[step]


# --- formulas -------------------------------------------------------------------------------------


@pytest.mark.peers
@every_case
def test_rates_are_those_of_keras(keras, name):
    ours, theirs = made(ranvier, name), made(keras, name)
    expected = [float(theirs(step)) for step in range(60)]
    np.testing.assert_allclose([ours(step) for step in range(60)], expected, rtol=2e-5, atol=1e-8)
    config = theirs.get_config()
    assert ours.get_config() == config


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
@every_case
def test_training_follows_keras(keras, name):
    x, y = draw(60, 3).astype("float32"), draw(60, 2).astype("float32")
    ours = mlp()
    ours.compile(optimizers.SGD(made(ranvier, name), momentum=0.5), "mse")
    theirs = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(2)]
    )
    theirs.set_weights(ours.get_weights())
    theirs.compile(keras.optimizers.SGD(made(keras, name), momentum=0.5), "mse")
    for model in (ours, theirs):
        model.fit(x, y, batch_size=2, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_formulas():
    """At steps where a person can tell the number."""
    for schedule, step, rate in [
        (schedules.ExponentialDecay(0.8, 10, 0.5), 20, 0.2),
        (schedules.ExponentialDecay(0.8, 10, 0.5, staircase=True), 19, 0.4),
        (schedules.InverseTimeDecay(0.8, 10, 3.0), 10, 0.2),
        (schedules.InverseTimeDecay(0.8, 10, 3.0, staircase=True), 9, 0.8),
        (schedules.PolynomialDecay(1.0, 10, 0.2), 5, 0.6),
        (schedules.PolynomialDecay(1.0, 10, 0.2), 99, 0.2),
        (schedules.PolynomialDecay(1.0, 10, 0.2, cycle=True), 15, 0.4),
        (schedules.CosineDecay(1.0, 10), 5, 0.5),
        (schedules.CosineDecay(1.0, 10, alpha=0.25), 99, 0.25),
        (schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4), 3, 0.75),
        (schedules.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=4), 9, 0.5),
        (schedules.PiecewiseConstantDecay([3, 6], [1.0, 0.5, 0.1]), 3, 1.0),
        (schedules.PiecewiseConstantDecay([3, 6], [1.0, 0.5, 0.1]), 4, 0.5),
        (schedules.PiecewiseConstantDecay([3, 6], [1.0, 0.5, 0.1]), 7, 0.1),
    ]:
        assert schedule(step) == pytest.approx(rate, abs=1e-12)


@every_case
def test_many_steps_at_once_have_the_same_bits(name):
    """Eager steps ask for one rate at a time, recorded ones for many."""
    schedule = made(ranvier, name)
    many = schedule.rates(0, 1000)
    single = np.concatenate([schedule.rates(step, step + 1) for step in range(1000)])
    np.testing.assert_array_equal(many, single)
    np.testing.assert_array_equal(many, schedule(np.arange(1000)))


@every_case
def test_config_round_trip(name):
    optimizer = optimizers.Adam(made(ranvier, name))
    again = optimizers.deserialize(json.loads(json.dumps(optimizers.serialize(optimizer))))
    assert type(again.schedule) is type(optimizer.schedule)
    assert again.get_config() == optimizer.get_config()
    np.testing.assert_array_equal(again.schedule.rates(0, 50), optimizer.schedule.rates(0, 50))


# --- steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [optimizers.SGD, optimizers.RMSprop, optimizers.AdamW])
def test_each_step_has_its_rate(optimizer):
    p, q = (Variable(np.ones(5), name=n) for n in "pq")
    scheduled, plain = optimizer(Own()), optimizer(1.0)
    for rate in Own.rates_of:
        assert scheduled.learning_rate == rate
        plain.learning_rate = rate
        g = draw(5)
        scheduled.apply_gradients([(g, p)])
        plain.apply_gradients([(g, q)])
        np.testing.assert_array_equal(p, q)


def test_recorded_steps_follow_it_with_the_same_bits(monkeypatch):
    """Through more than two tables of rates; in epochs, batches and runs of every length."""
    monkeypatch.setattr(optimizers.optimizer, "_RATES", 16)
    x, y = draw(37, 3), draw(37, 2)

    def trained():
        model = mlp()
        model.compile(optimizers.Adam(schedules.ExponentialDecay(0.05, 3, 0.9)), "mse")
        model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        model.train_on_batch(x, y)
        model.fit(x, y, batch_size=1, shuffle=False, verbose=0)
        return model

    model = trained()
    assert model.optimizer.iterations == 3 * 10 + 1 + 37
    assert model.optimizer.learning_rate == pytest.approx(0.05 * 0.9 ** (68 / 3))
    monkeypatch.setattr(training, "_REPLAY", False)
    assert bits(trained()) == bits(model)


def test_the_table_goes_round():
    model = mlp()
    model.compile(optimizers.SGD(schedules.PiecewiseConstantDecay([4999], [0.0, 0.01])), "mse")
    before = bits(model)
    x, y = draw(5000, 3), draw(5000, 2)
    model.fit(x, y, batch_size=1, verbose=0)
    assert bits(model) == before  # steps 0 to 4999
    model.train_on_batch(x, y)
    assert bits(model) != before


def test_it_is_asked_for_steps_that_are_made():
    model = mlp()
    model.compile(optimizers.SGD(Own()), "mse")
    model.fit(draw(7, 3), draw(7, 2), batch_size=1, verbose=0)  # there are rates of seven
    refused(model, lambda: model.fit(draw(7, 3), draw(7, 2), verbose=0), IndexError, "out of range")


def test_a_schedule_for_a_number_and_another_for_it():
    model = mlp()
    x, y = draw(4, 3), draw(4, 2)
    model.train_on_batch(x, y)
    before = bits(model)
    model.optimizer.learning_rate = schedules.PiecewiseConstantDecay([1], [0.0, 0.5])
    model.train_on_batch(x, y)  # step 1
    assert bits(model) == before
    model.train_on_batch(x, y)
    assert bits(model) != before
    model.optimizer.learning_rate = schedules.PiecewiseConstantDecay([9], [0.0, 0.5])
    before = bits(model)
    model.train_on_batch(x, y)
    assert bits(model) == before
    with pytest.raises(
        TypeError, match=r"\[sgd\] the learning rate follows PiecewiseConstantDecay"
    ):
        model.optimizer.learning_rate = 0.1


def test_building_anew_begins_at_step_0():
    optimizer = optimizers.SGD(Own())
    for _ in range(2):
        v = Variable(np.zeros(1), name="v")
        for rate in Own.rates_of:
            before = v.numpy()
            optimizer.apply_gradients([(np.ones(1), v)])
            np.testing.assert_allclose(before - v.numpy(), rate, rtol=1e-12, atol=1e-15)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.9), r"\[ExponentialDecay\] decay_steps must"),
        (lambda: schedules.CosineDecay(0.1, -1), r"\[CosineDecay\] decay_steps must be above 0"),
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [1, 2]), "values be one more; received"),
        (lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]), "boundaries must rise"),
        (lambda: schedules.deserialize({"class_name": "Cosine"}), "unknown schedule 'Cosine'"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_bad_rates_change_nothing(bad):
    class Bad(schedules.LearningRateSchedule):
        def __call__(self, step):
            return bad if step == 2 else 0.1

    model = mlp()
    model.compile(optimizers.Adam(Bad()), "mse")
    before = state(model)
    text = r"\[schedule\] Bad must give numbers >= 0; of step 2 it gave"
    with pytest.raises(ValueError, match=text):
        model.fit(draw(8, 3), draw(8, 2), batch_size=2, verbose=0)
    assert state(model) == before


def test_own_ones_say_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"must define __call__\(step\)"):
        schedules.LearningRateSchedule()(0)
    with pytest.raises(NotImplementedError, match=r"Own must define get_config\(\)"):
        optimizers.SGD(Own()).get_config()
