"""The programs in examples/: each runs in its quick form, and what it prints is true."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ranvier

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def load(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(text, pattern):
    """What the groups of a pattern find in a text, as numbers."""
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in\n{text}"
    return [float(group) for group in found.groups()]


@pytest.mark.parametrize("name", NAMES)
def test_help(name):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "default: " in done.stdout


# --- autoencoder ----------------------------------------------------------------------------------


def test_autoencoder(capsys):
    load("autoencoder").main(["--quick"])
    text = capsys.readouterr().out
    for shape, parameters in [("5", "55"), ("5", "30"), ("10", "60")]:
        assert re.search(rf"\(None, {shape}\).*\b{parameters}\b", text)
    (before,) = numbers(text, r"before training +(\d\.\d+)")
    (mean,) = numbers(text, r"each column's mean +(\d\.\d+)")
    (after,) = numbers(text, r"after training +(\d\.\d+)")
    assert after < 0.9 * min(before, mean)


def test_autoencoder_passes_its_waist():
    example = load("autoencoder")
    ranvier.utils.set_random_seed(2)  # the program's own
    x = example.make_rows()
    assert x.shape == (100, 10)
    assert 0 < x.min() < x.max() < 1
    model = example.make_model()
    activations = [layer.activation for layer in model.layers]
    assert activations == ["relu", "relu", "relu", "sigmoid"]
    model.compile("adam", "mse")
    model.fit(x, x, epochs=100, batch_size=1, verbose=0)
    error = np.mean((x - model.predict(x)) ** 2)
    assert error < 0.1 * x.var(axis=0).mean()
    assert error == pytest.approx(model.evaluate(x, x, verbose=0), rel=1e-5)


# --- hidden code ----------------------------------------------------------------------------------


def rows_of(text):
    """optimizer -> (first loss, last loss, held-out loss, distance, share of the code)"""
    pattern = r"^(\w+) +([\d.]+) -> +([\d.]+) +([\d.]+) +([\d.]+) +(\d+)%$"
    return {name: tuple(map(float, rest)) for name, *rest in re.findall(pattern, text, re.M)}


def test_hidden_code(capsys):
    load("hidden_code").main(["--quick"])
    text = capsys.readouterr().out
    assert "penalty: 0.5 * l1-code; 10 epochs on 1438 digits" in text
    (blank,) = numbers(text, r"held-out digits lie ([\d.]+) from the mean digit")
    rows = rows_of(text)
    assert list(rows) == ["SGD", "RMSprop", "Adam"]
    for first, last, held_out, distance, _ in rows.values():
        assert last < 0.7 * first
        assert held_out == pytest.approx(last, rel=0.2)
        assert distance < 0.75 * blank


@pytest.mark.parametrize(
    "options",
    [
        ["--penalty", "none"],
        ["--penalty", "l2-code"],
        ["--penalty", "l1-weights", "--start", "normal"],
        ["--penalty", "l2-weights", "--strength", "0.02"],
    ],
    ids=" ".join,
)
def test_hidden_code_with_other_penalties(options, capsys):
    load("hidden_code").main(["--epochs", "2", *options])
    rows = rows_of(capsys.readouterr().out)
    assert len(rows) == 3
    assert all(last < first for first, last, *_ in rows.values())


def test_hidden_code_computes_the_loss_that_it_states():
    """||x - x'||^2 averaged over the rows, plus strength * R."""
    example = load("hidden_code")
    x = np.random.default_rng(0).normal(size=(12, 64)).astype(np.float32)
    same = ranvier.layers.Normalization(mean=0, variance=1)
    for penalty in ("none", "l1-weights", "l2-weights", "l1-code", "l2-code"):
        model = example.make_model(same, 5, "normal", penalty, 0.3)
        w, _, v, _ = model.get_weights()[-4:]
        model.set_weights([*model.get_weights()[:-4], w, np.ones(5), v, np.full(64, 0.5)])
        h = 1 / (1 + np.exp(-(x @ w + 1)))
        distance = np.square(h @ v + 0.5 - x).sum(axis=1).mean()
        norm = {"l1": lambda a: np.abs(a).sum(), "l2": lambda a: np.square(a).sum()}
        r = 0.0
        if penalty.endswith("weights"):
            r = norm[penalty[:2]](w) + norm[penalty[:2]](v)
        elif penalty.endswith("code"):
            r = norm[penalty[:2]](h) / len(x)
        losses = example.train(model, "SGD", x, x, (x, x), epochs=1)
        assert losses["loss"][0] == pytest.approx(distance + 0.3 * r, rel=1e-4)
        assert example.mean_distance(x, x + 0.5) == pytest.approx(4.0)


def test_hidden_code_begins_with_another_models_weights(capsys):
    example = load("hidden_code")
    example.main(["--quick", "--penalty", "none"])
    rows = rows_of(capsys.readouterr().out)
    example.main(["--quick", "--penalty", "none", "--start", "another"])
    for name, (first, *_) in rows_of(capsys.readouterr().out).items():
        assert first < 0.6 * rows[name][0]


def test_hidden_code_draws_what_it_saw(tmp_path, capsys):
    file = tmp_path / "digits.png"
    load("hidden_code").main(["--epochs", "1", "--plot", str(file)])
    assert file.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.endswith(f"drawn in {file}\n")


def test_hidden_code_says_when_matplotlib_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit, match=r'pip install "ranvier\[plot\]"'):
        load("hidden_code").plot(str(tmp_path / "a.png"), np.zeros((10, 64)), np.zeros((10, 64)))


# --- MNIST ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist_folder(tmp_path_factory):
    """Four small files in MNIST's form: a digit is a bright bar at a height of its own."""
    folder = tmp_path_factory.mktemp("mnist")
    random = np.random.default_rng(0)
    for part, rows in (("train", 640), ("t10k", 100)):
        labels = (np.arange(rows) % 10).astype(np.uint8)
        images = random.integers(0, 60, (rows, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 3 : 2 * label + 6, 4:24] += 180
        header = struct.pack(">IIII", 0x803, rows, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 0x801, rows) + labels.tobytes())
    return folder


@pytest.mark.parametrize("scale", ["255", "standard"])
def test_mnist_mlp(scale, mnist_folder, capsys):
    load("mnist_mlp").main(["--epochs", "3", "--scale", scale, "--data", str(mnist_folder)])
    text = capsys.readouterr().out
    for parameters in ("50240", "4160", "650"):
        assert parameters in text.replace(",", "")
    assert "Epoch 3/3" in text
    assert re.search(r"trained on 640 images, 3 epochs, in \d+\.\d s", text)
    (accuracy,) = numbers(text, r"test accuracy (\d\.\d{4})\n$")
    wrong, of = numbers(text, r"(\d+) of (\d+) test images wrong")
    assert accuracy == pytest.approx(1 - wrong / of)
    assert accuracy > 0.9


def test_mnist_mlp_quick_form_and_seed(mnist_folder, capsys, monkeypatch):
    monkeypatch.setenv("RANVIER_DATA", str(mnist_folder))
    example = load("mnist_mlp")

    def last_lines(*options):
        example.main(["--quick", *options])
        text = capsys.readouterr().out
        assert "Epoch 1/1" in text
        return re.search(r"test loss .*", text, re.S)[0]

    assert last_lines() == last_lines("--seed", "0") != last_lines("--seed", "1")


def test_mnist_scalings():
    example = load("mnist_mlp")
    x = np.random.default_rng(0).integers(0, 256, (50, 28, 28)).astype(np.uint8)
    np.testing.assert_allclose(example.make_scaling("255", x)(x), x / 255, rtol=1e-6)
    y = example.make_scaling("standard", x)(x)
    np.testing.assert_allclose(y, (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-5)


# --- CNN ------------------------------------------------------------------------------------------


def test_cnn(mnist_folder, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    options = ["--quick", "--epochs", "3", "--data", str(mnist_folder), "--plot", str(tmp_path)]
    load("cnn").main(options)
    text = capsys.readouterr().out
    for shape, parameters in [("28, 28, 32", "320"), ("7, 7, 128", "0"), ("128", "802944")]:
        assert re.search(rf"\(None, {shape}\).*\b{parameters}\b", text.replace("802,944", "802944"))
    assert re.search(r"trained on 640 pictures, 3 epochs, in \d+\.\d s", text)
    (accuracy,) = numbers(text, r"test accuracy (\d\.\d{4})\n")
    wrong, of = numbers(text, r"(\d+) of (\d+) test images wrong")
    assert accuracy == pytest.approx(1 - wrong / of)
    assert accuracy > 0.9
    for name in ("confusion.png", "filters.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_cnn_full_net_on_small_pictures(capsys):
    load("cnn").main(["--size", "full", "--quick", "--rows", "96", "--epochs", "12"])
    text = capsys.readouterr().out
    assert re.search(r"\(None, 8, 8, 16\)", text)  # the fourth convolution
    (accuracy,) = numbers(text, r"test accuracy (\d\.\d{4})\n")
    assert accuracy > 0.5


def test_cnn_tells_its_size_before_it_is_made(monkeypatch):
    example = load("cnn")
    assert example.count_parameters(example.FULL) == 823_498_024
    sizes = [example.SMALL, example.Size((12, 20, 3), 7, 5, 3, 1)]
    for size in sizes:
        assert example.count_parameters(size) == example.make_model(size).count_params()
    weights_and_moments = 12 * example.count_parameters(example.FULL)
    assert weights_and_moments < example.bytes_needed(example.FULL, 32, 160) < 14e9
    monkeypatch.setattr(example, "bytes_available", lambda: int(9e9))
    with pytest.raises(SystemExit, match=r"needs about 12\.\d GB .* and 9\.0 GB are available"):
        example.main(["--size", "full"])


def test_cnn_counts_the_pictures_before_it_reads_them(monkeypatch, tmp_path):
    example = load("cnn")
    parse = argparse.Namespace
    assert example.count_pictures(parse(size="small")) == 60_000 + 10_000
    made_up = parse(size="full", images=None, rows=96)
    assert example.count_pictures(made_up) == sum(
        len(x) for x, _ in example.patterns(example.Size((4, 4, 3), 0, 1, 2, 1), 96, seed=0)
    )
    for name, count in [("cats", 3), ("dogs", 4)]:
        (tmp_path / name / "inside").mkdir(parents=True)
        for i in range(count):
            (tmp_path / name / "inside" / f"{i}.png").write_bytes(b"")  # not read
    one = example.bytes_needed(example.FULL, 32, 1) - example.bytes_needed(example.FULL, 32, 0)
    assert one == 224 * 224 * 3 + 4 * 1000
    room = example.bytes_needed(example.FULL, 32, 6)
    monkeypatch.setattr(example, "bytes_available", lambda: room)
    with pytest.raises(SystemExit, match="to train on 7 pictures in batches of 32, and"):
        example.main(["--size", "full", "--images", str(tmp_path)])


def test_cnn_asks_the_system_and_the_container(monkeypatch, tmp_path):
    example = load("cnn")
    limits = [tmp_path / "memory.max", tmp_path / "missing"]
    monkeypatch.setattr(example, "LIMITS", [str(path) for path in limits])
    limits[0].write_text("max\n")
    free = example.bytes_available()
    if sys.platform == "linux":
        assert free > 1e6
    limits[0].write_text("123456\n")
    assert example.bytes_available() == 123456


def test_cnn_confusion():
    found = load("cnn").confusion(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 3)
    assert found.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]


# --- textbook -------------------------------------------------------------------------------------


def test_textbook(capsys):
    load("textbook").main(["--quick"])
    text = capsys.readouterr().out
    (error,) = numbers(text, r"gradients differ from central differences by ([\d.e+-]+)")
    assert error < 1e-6
    losses = [float(loss) for loss in re.findall(r"step +\d+ +loss ([\d.]+)", text)]
    assert len(losses) == 6
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.05 * losses[0]
    (apart,) = numbers(text, r"a layer is its neurons: differ by ([\d.e+-]+)")
    assert apart < 1e-12
    table = re.findall(r"([01]) xor ([01]) = ([01])   the net says ([\d.]+)", text)
    assert [(a, b) for a, b, *_ in table] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    for a, b, truth, guess in table:
        assert int(truth) == int(a) ^ int(b) == round(float(guess))


def test_textbook_finds_a_wrong_gradient():
    example = load("textbook")
    random = np.random.default_rng(0)
    network = example.Network([example.Layer(2, 3, "tanh", random)])
    x, y = random.normal(size=(5, 2)), random.normal(size=(5, 3))
    assert example.gradient_error(network, x, y) < 1e-6
    network.layers[0].activation.backward = lambda dout: dout
    assert example.gradient_error(network, x, y) > 1e-3


def test_textbook_agrees_with_the_layers_of_the_library():
    example = load("textbook")
    random = np.random.default_rng(1)
    network = example.Network(
        [example.Layer(3, 5, "sigmoid", random), example.Layer(5, 2, "linear", random)]
    )
    x, y = random.normal(size=(7, 3)), random.normal(size=(7, 2))
    model = ranvier.Sequential(
        [
            ranvier.Input((3,), dtype="float64"),
            ranvier.layers.Dense(5, "sigmoid", dtype="float64"),
            ranvier.layers.Dense(2, dtype="float64"),
        ]
    )
    model.set_weights(network.weights)
    model.compile(ranvier.optimizers.SGD(0.5), "mse")
    loss, gradients = network.gradients(x, y)
    assert model.train_on_batch(x, y) == pytest.approx(loss)
    example.GradientDescent().update_weights(network.weights, gradients, learning_rate=0.5)
    for a, b in zip(network.weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
