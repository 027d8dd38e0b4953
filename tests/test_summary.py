"""What a model's summary shows."""

from __future__ import annotations

from nets import Net, NetByForward, draw, stack, summary, two_by_two
from ranvier import Input, Model, Sequential, layers


def test_summary_of_a_stack():
    model = Sequential([Input((784,)), layers.Dense(64, activation="relu"), layers.Dropout(0.5)])
    model.add(layers.Dense(10, trainable=False))
    assert (
        summary(model)
        == """\
Model: "sequential"
┏━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━┓
┃ Layer (type)      ┃ Output Shape ┃ Param # ┃
┡━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━┩
│ dense (Dense)     │ (None, 64)   │  50,240 │
├───────────────────┼──────────────┼─────────┤
│ dropout (Dropout) │ (None, 64)   │       0 │
├───────────────────┼──────────────┼─────────┤
│ dense_1 (Dense)   │ (None, 10)   │     650 │
└───────────────────┴──────────────┴─────────┘
 Total params: 50,890 (198.79 KB)
 Trainable params: 50,240 (196.25 KB)
 Non-trainable params: 650 (2.54 KB)"""
    )


def test_summary_of_a_graph():
    assert (
        summary(two_by_two())
        == """\
Model: "net"
┏━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━━━┓
┃ Layer (type)   ┃ Output Shape ┃ Param # ┃ Connected to ┃
┡━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━━━┩
│ a (InputLayer) │ (None, 3)    │       0 │ -            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ h (Dense)      │ (None, 4)    │      16 │ a            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ b (InputLayer) │ (None, 2)    │       0 │ -            │
├────────────────┼──────────────┼─────────┼──────────────┤
│ join (Join)    │ (None, 6)    │       0 │ h, b         │
├────────────────┼──────────────┼─────────┼──────────────┤
│ p (Dense)      │ (None, 2)    │      14 │ join         │
├────────────────┼──────────────┼─────────┼──────────────┤
│ q (Dense)      │ (None, 1)    │       5 │ h            │
└────────────────┴──────────────┴─────────┴──────────────┘
 Total params: 35 (140.00 B)
 Trainable params: 35 (140.00 B)
 Non-trainable params: 0 (0.00 B)"""
    )


def test_summary_counts_bytes_of_float64_and_shared_layers_once(capsys):
    x = Input((512,), dtype="float64")
    shared = layers.Dense(512, dtype="float64")
    model = Model(x, shared(shared(x)))
    model.summary()
    text = capsys.readouterr().out
    assert " Total params: 262,656 (2.00 MB)\n" in text
    assert text.count("shared") == 0 and text.count("(Dense)") == 1


def test_summary_before_anything_is_built_and_of_a_width():
    model = Sequential(stack())
    assert "│ ?            │ 0 (unbuilt) │" in summary(model)
    model(draw(1, 3))
    assert {len(line) for line in summary(model, line_length=70).split("\n")[1:-3]} == {70}


def test_summary_of_subclasses():
    for model in (Net(), NetByForward()):
        model(draw(2, 3))
        text = summary(model)
        assert f'Model: "{model.name}"' in text and "hidden (Dense)" in text
        assert " Total params: 26 (104.00 B)" in text
