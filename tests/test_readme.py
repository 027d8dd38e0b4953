"""What README.md shows runs, and does what it says."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ranvier
from ranvier import Input, Sequential, layers, ops, utils

README = Path(__file__).resolve().parents[1] / "README.md"


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)


def section(title):
    """The text below a heading, to the next one."""
    pattern = rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)"
    found = re.search(pattern, README.read_text("utf-8"), re.M | re.S)
    assert found, f"README.md has no section {title!r}"
    return found[1]


def python_of(title):
    """The names that each program of a section leaves behind."""
    results = []
    for code in re.findall(r"^```python\n(.*?)^```$", section(title), re.M | re.S):
        names = {"__name__": "readme"}
        exec(compile(code, str(README), "exec"), names)
        results.append(names)
    return results


def test_its_two_commands():
    assert fenced("sh") == [
        "python -m pip install . && python -m ranvier train\n",
        'python -m pip install ".[test]" && python -m pytest\n',
    ]


def test_every_program_is_in_a_section_that_is_tested():
    titles = ["A first model", "Writing a layer", "ranvier.ops"]
    assert len(fenced("python")) == sum(section(title).count("```python") for title in titles)


def test_a_first_model(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", section("A first model"), re.M | re.S)
    assert len(code.splitlines()) == 15
    (names,) = python_of("A first model")
    assert names["accuracy"] >= 0.93
    assert len(names["history"].history["val_loss"]) == 30
    said = capsys.readouterr().out.splitlines()[-1]
    label = names["model"].predict(names["x_test"][:1]).argmax()
    assert said == f"accuracy {names['accuracy']:.3f}, first digit: {label}"


def test_layers_of_ones_own(capsys):
    sine, low_rank = python_of("Writing a layer")
    said = capsys.readouterr().out
    for names in ("input", "sine/w", "low_rank_dense/u", "low_rank_dense/v", "low_rank_dense/b"):
        assert f"'{names}': " in said
    x = np.array([[0.5, -1.0, 2.0]])
    layer = sine["Sine"](dtype="float64")
    layer(x)
    layer.w.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(layer(x), np.sin(x * [1, 2, 3]))
    layer = low_rank["LowRankDense"](4, rank=2, activation="tanh", dtype="float64")
    y = layer(x)
    np.testing.assert_allclose(y, np.tanh(x @ layer.u.numpy() @ layer.v.numpy()))


@pytest.mark.parametrize("which", [0, 1], ids=["NumpyLayer", "ops"])
def test_such_a_layer_trains(which):
    names = python_of("Writing a layer")[which]
    x = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    if which == 0:
        layer, y = names["Sine"](), np.sin(1.5 * x)
    else:
        layer = names["LowRankDense"](3, rank=1)
        y = x @ np.array([[1.0], [2.0], [-1.0]]) @ [[0.5, 1.0, -2.0]]
    model = Sequential([Input((3,)), layer])
    model.compile(ranvier.optimizers.Adam(0.02), "mse")
    losses = model.fit(x, y, batch_size=16, epochs=100, verbose=0).history["loss"]
    assert losses[-1] < 1e-3 < losses[0]


def test_a_wrong_derivative_of_such_a_layer_is_found():
    code = next(c for c in fenced("python") if "class Sine" in c)
    assert "slope * w" in code
    with pytest.raises(AssertionError, match="relative errors above"):
        exec(code.replace("slope * w", "slope"), {"__name__": "readme"})


def test_ops():
    (names,) = python_of("ranvier.ops")
    y = np.tanh(np.full((2, 4), 0.3))
    np.testing.assert_allclose(names["y"], y, rtol=1e-12)
    assert names["loss"] == pytest.approx((y**2).mean())
    np.testing.assert_allclose(names["db"], (2 * y / 8 * (1 - y**2)).sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(names["w"], 0.1 - 0.1 * names["dw"], rtol=1e-12)
    assert (names["w"] < 0.1).all()


def test_what_it_says_exists_exists():
    """Each name in the column "exists", and none in "not yet"."""
    table = section("What exists, and what does not yet").splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    rows = {row[0]: row[1:] for row in cells if len(row) == 3}
    namespaces = {
        "layers": layers,
        "optimizers": ranvier.optimizers,
        "schedules": ranvier.optimizers.schedules,
        "callbacks": ranvier.callbacks,
    }
    for row, space in namespaces.items():
        there, missing = (re.findall(r"`([A-Z]\w+)`", cell) for cell in rows[row])
        assert there
        assert [name for name in there if not hasattr(space, name)] == [], row
        assert [name for name in missing if hasattr(space, name)] == [], row
    told = set(re.findall(r"`(\w+)`", rows["layers"][0]))
    assert told == set(layers.registry.classes) - {"InputLayer"} | {"NumpyLayer"}
    names = rows["activations"][0].split(", ")
    others = {"get", "serialize", "linear", "swish"}
    assert set(names) == set(ranvier.activations.__all__) - others
    for name in names:
        ops.activation(np.zeros((1, 2)), name)


def test_the_seed_it_names_makes_a_program_repeat_itself():
    def run():
        utils.set_random_seed(3)
        model = Sequential([Input((4,)), layers.Dense(3), layers.Dropout(0.5)])
        model.compile("adam", "mse")
        x = np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4)
        model.fit(x, x[:, :3], batch_size=3, epochs=2, verbose=0)
        return model.get_weights()

    for a, b in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_its_links_lead_somewhere():
    text = README.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    anchors = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (README.parent / target).exists(), target


def test_programs_are_short_enough_to_read():
    for code in fenced("python"):
        assert max(map(len, textwrap.dedent(code).splitlines())) <= 100
