"""The data sets: what they hold, how they are split, where they are looked for, what is refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ranvier.datasets import _cache, digits, mnist

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = mnist.SHA256
REAL_DATA = os.environ.get("RANVIER_DATA", "")
REAL_MIRRORS = mnist.MIRRORS


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch, tmp_path):
    """Each test has an empty cache of its own, no data folder and no mirror."""
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RANVIER_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", ())


def test_importing_reads_no_data_and_no_optional_package():
    program = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
import ranvier.datasets
assert ranvier.datasets.digits.load_data and ranvier.datasets.mnist.load_data
assert any("mnist" in name for name in opened), "the hook sees nothing"
assert not [name for name in opened if name.endswith((".npz", "ubyte", ".gz"))], opened
assert not {"pooch", "requests", "sklearn"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-B", "-c", program], check=True)


# digits


def all_digits():
    (x, y), (x_none, y_none) = digits.load_data(test_fraction=0)
    assert x_none.shape == (0, 8, 8) and y_none.shape == (0,)
    return x, y


def rows(x, y):
    """The rows as a sorted list, to compare two sets of rows whatever their order."""
    return sorted(bytes(image) + bytes([label]) for image, label in zip(x, y, strict=True))


def test_digits_are_the_published_rows():
    with np.load(Path(digits.__file__).with_name("digits.npz"), allow_pickle=False) as file:
        x, y = file["x"], file["y"]
    # The hash was taken when the arrays had been found equal to scikit-learn's load_digits().
    content = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    assert content == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    # Class counts as UCI gives them for the test part.
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert rows(*all_digits()) == rows(x, y)


def test_digits_shapes_types_and_range():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert x_train.shape == (1438, 8, 8) and y_train.shape == (1438,)
    assert x_test.shape == (359, 8, 8) and y_test.shape == (359,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert x_train.min() == 0 and x_train.max() == 16
    assert set(y_train) == set(y_test) == set(range(10))


@pytest.mark.parametrize("fraction", [0.01, 0.2, 1 / 3, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 7])
def test_digits_split_is_stratified_and_loses_no_row(fraction, seed):
    (x_train, y_train), (x_test, y_test) = digits.load_data(fraction, seed)
    assert len(y_test) == round(1797 * fraction)
    x, y = np.concatenate([x_train, x_test]), np.concatenate([y_train, y_test])
    assert rows(x, y) == rows(*all_digits())
    share = np.bincount(y, minlength=10) * len(y_test) / len(y)
    assert np.abs(np.bincount(y_test, minlength=10) - share).max() <= 1


def test_digits_rows_are_shuffled():
    for _, labels in digits.load_data():
        assert np.abs(np.corrcoef(labels, np.arange(len(labels)))[0, 1]) < 0.15


def test_digits_seed_decides_and_global_state_does_not():
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = digits.load_data(seed=3)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    again, other = digits.load_data(seed=3), digits.load_data(seed=4)
    for part in (0, 1):
        assert np.array_equal(first[part][0], again[part][0])
        assert np.array_equal(first[part][1], again[part][1])
        assert not np.array_equal(first[part][1], other[part][1])


def test_digits_split_is_the_same_on_every_machine():
    (_, y_train), (_, y_test) = digits.load_data()
    assert y_train[:10].tolist() == [0, 6, 3, 8, 1, 8, 1, 8, 9, 7]
    assert y_test[:10].tolist() == [4, 5, 2, 1, 7, 3, 9, 6, 8, 2]


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), 1e-6, 0.9999])
def test_digits_refuses_a_fraction_that_makes_no_split(fraction):
    with pytest.raises(ValueError, match=r"\[digits\] test_fraction"):
        digits.load_data(fraction)


def test_digits_refuses_a_bad_seed():
    with pytest.raises(ValueError, match=r"seed must be >= 0; received seed=-1"):
        digits.load_data(seed=-1)
    for seed in (0.5, None, True):
        with pytest.raises(TypeError, match=r"\[digits\] seed must be an integer"):
            digits.load_data(seed=seed)


# mnist: reading


def idx(array, magic=None):
    """An array of bytes as the content of an IDX file."""
    magic = 0x0800 + array.ndim if magic is None else magic
    header = np.array([magic, *array.shape], dtype=">u4")
    return header.tobytes() + array.astype(np.uint8).tobytes()


def small_set(seed=0):
    """Name -> content of four files with 7 training and 3 test images, and what they hold."""
    rng = np.random.default_rng(seed)
    arrays = {
        TRAIN_IMAGES: rng.integers(0, 256, (7, 28, 28)),
        TRAIN_LABELS: rng.integers(0, 10, 7),
        TEST_IMAGES: rng.integers(0, 256, (3, 28, 28)),
        TEST_LABELS: rng.integers(0, 10, 3),
    }
    return {name: idx(array) for name, array in arrays.items()}, arrays


def write(folder, contents, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    return folder


def assert_holds(loaded, arrays):
    (x_train, y_train), (x_test, y_test) = loaded
    for got, name in zip((x_train, y_train, x_test, y_test), mnist.SHA256, strict=True):
        assert got.dtype == np.uint8 and got.flags.writeable
        assert np.array_equal(got, arrays[name]), name


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", [str, Path])
def test_mnist_reads_a_folder(tmp_path, compress, kind):
    contents, arrays = small_set()
    assert_holds(mnist.load_data(kind(write(tmp_path / "d", contents, compress))), arrays)


def test_mnist_knows_gzip_by_content_and_prefers_a_plain_file(tmp_path):
    contents, arrays = small_set()
    folder = write(tmp_path, {f"{name}.gz": content for name, content in contents.items()})
    assert_holds(mnist.load_data(folder), arrays)  # unpacked, but still named .gz
    other, other_arrays = small_set(seed=1)
    write(folder, other)
    assert_holds(mnist.load_data(folder), other_arrays)


def test_mnist_real_files():
    above = Path(__file__).resolve().parents[2]
    given = [Path(REAL_DATA) / "mnist", Path(REAL_DATA)] if REAL_DATA else []
    folders = [*given, above / "shared" / "data" / "mnist"]
    folder = next((f for f in folders if len(mnist._present(f)) == 4), None)
    if folder is None:
        pytest.skip("the real MNIST files are not on this machine")
    (x_train, y_train), (x_test, y_test) = mnist.load_data(folder)
    assert x_train.shape == (60000, 28, 28) and y_train.shape == (60000,)
    assert x_test.shape == (10000, 28, 28) and y_test.shape == (10000,)
    assert {a.dtype for a in (x_train, y_train, x_test, y_test)} == {np.dtype(np.uint8)}
    assert y_train[:5].tolist() == [5, 0, 4, 1, 9] and y_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(y_train).tolist() == [
        *(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    ]
    # The known mean and standard deviation of the training pixels, 0.1307 and 0.3081 of 255.
    assert x_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert x_train.std() / 255 == pytest.approx(0.3081, abs=5e-5)


# mnist: files that are refused


def refused(tmp_path, match, changes):
    """Load the small set with some files changed and expect a ValueError that matches."""
    contents, _ = small_set()
    with pytest.raises(ValueError, match=match) as caught:
        mnist.load_data(write(tmp_path, contents | changes))
    return str(caught.value)


@pytest.mark.parametrize("cut", [1, 500])
def test_mnist_refuses_a_truncated_file(tmp_path, cut):
    content = small_set()[0][TRAIN_IMAGES][:-cut]
    message = refused(tmp_path, "truncated", {TRAIN_IMAGES: content})
    assert f"{tmp_path / TRAIN_IMAGES} has {7 * 784 - cut} bytes of images" in message
    assert "7 x 28 x 28 = 5488" in message


def test_mnist_refuses_extra_bytes_and_an_empty_set(tmp_path):
    longer = small_set()[0][TEST_LABELS] + b"\1"
    refused(tmp_path, "has 4 bytes of labels; expected 3 = 3", {TEST_LABELS: longer})
    refused(tmp_path, "has 0 bytes of images", {TEST_IMAGES: idx(np.ones((0, 28, 28)))})


def test_mnist_refuses_a_header_that_is_cut_or_absurd(tmp_path):
    whole = small_set()[0][TEST_IMAGES]
    refused(tmp_path, "ends after 9 bytes, within its header", {TEST_IMAGES: whole[:9]})
    absurd = whole[:4] + b"\xff" * 12 + whole[16:]
    refused(tmp_path, "4294967295 x 4294967295 x 4294967295", {TEST_IMAGES: absurd})
    refused(tmp_path, r"starts with the bytes \(none\)", {TEST_IMAGES: b""})


def test_mnist_refuses_images_and_labels_swapped(tmp_path):
    whole = small_set()[0]
    message = refused(
        tmp_path, "starts", {TRAIN_IMAGES: whole[TRAIN_LABELS], TRAIN_LABELS: whole[TRAIN_IMAGES]}
    )
    assert str(tmp_path / TRAIN_IMAGES) in message
    assert "00 00 08 01 (labels); expected 00 00 08 03 (images)" in message


def test_mnist_refuses_train_and_test_swapped(tmp_path):
    whole = small_set()[0]
    message = refused(
        tmp_path, "swapped", {TRAIN_LABELS: whole[TEST_LABELS], TEST_LABELS: whole[TRAIN_LABELS]}
    )
    assert f"{TRAIN_IMAGES} has 7 images but" in message
    assert f"{TRAIN_LABELS} has 3 labels" in message


def test_mnist_refuses_another_magic_number(tmp_path):
    floats = idx(np.ones((3, 28, 28)), magic=0x0D03)  # 0x0D: 32-bit floats
    refused(tmp_path, r"00 00 0d 03 \(not a file of MNIST\)", {TEST_IMAGES: floats})
    page = b"<html>Not found</html>"
    refused(tmp_path, rf"{TEST_IMAGES} starts with the bytes 3c 68 74 6d", {TEST_IMAGES: page})


def test_mnist_refuses_other_dimensions_and_labels(tmp_path):
    small = idx(np.ones((3, 8, 9)))
    refused(tmp_path, "images of 8x9 pixels; expected 28x28", {TEST_IMAGES: small})
    refused(tmp_path, "has a label 10; expected 0 to 9", {TEST_LABELS: idx(np.array([0, 10, 3]))})


def test_mnist_refuses_damaged_gzip(tmp_path):
    contents, _ = small_set()
    folder = write(tmp_path, contents, compress=True)
    file = folder / f"{TEST_IMAGES}.gz"
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
    no_block = whole[:10] + b"\xff" + whole[11:]  # its first deflate block has no known type
    no_check = whole[:-8] + b"\0" * 8
    for damaged in (whole[:middle], whole[:15], flipped, no_block, no_check, whole + b"junk"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{TEST_IMAGES}.gz is a truncated or damaged gzip"):
            mnist.load_data(folder)


@pytest.mark.parametrize("lost", mnist.SHA256)
def test_mnist_names_the_file_that_is_missing(tmp_path, lost):
    folder = write(tmp_path, small_set()[0])
    (folder / lost).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist.load_data(folder)
    assert f"{folder} lacks {lost}; expected" in str(caught.value)
    assert all(name in str(caught.value) for name in mnist.SHA256)


def test_mnist_names_a_folder_that_is_missing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder; expected"):
        mnist.load_data(tmp_path / "nowhere")
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"RANVIER_DATA=.*nowhere is not a folder"):
        mnist.load_data()


# mnist: where the files are looked for


@pytest.mark.parametrize("below", ["", "mnist"])
def test_mnist_reads_the_data_folder_before_the_cache(tmp_path, monkeypatch, below):
    contents, arrays = small_set()
    write(tmp_path / "cache" / "mnist", small_set(seed=1)[0])
    write(tmp_path / "data" / below, contents)
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "data"))
    assert_holds(mnist.load_data(), arrays)


def test_mnist_path_is_the_only_place_if_given(tmp_path, monkeypatch):
    write(tmp_path / "data", small_set()[0])
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "data"))
    contents, arrays = small_set(seed=1)
    assert_holds(mnist.load_data(write(tmp_path / "mine", contents)), arrays)
    (tmp_path / "mine" / TEST_LABELS).unlink()
    with pytest.raises(FileNotFoundError, match="mine lacks"):
        mnist.load_data(tmp_path / "mine")


def test_mnist_data_folder_without_mnist_leads_to_the_cache_and_with_a_part_is_an_error(
    tmp_path, monkeypatch
):
    contents, arrays = small_set()
    write(tmp_path / "cache" / "mnist", contents)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "data"))
    assert_holds(mnist.load_data(), arrays)
    write(tmp_path / "data" / "mnist", {TEST_LABELS: contents[TEST_LABELS]})
    with pytest.raises(FileNotFoundError, match=f"lacks {TRAIN_IMAGES}, "):
        mnist.load_data()


@pytest.mark.parametrize("compress", [False, True])
def test_mnist_reads_the_cache_without_pooch(tmp_path, monkeypatch, compress):
    contents, arrays = small_set()
    write(tmp_path / "cache" / "mnist", contents, compress)
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert_holds(mnist.load_data(), arrays)


def test_mnist_says_what_to_install_for_a_download(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r'pip install "ranvier\[datasets\]".*path='):
        mnist.load_data()


def test_cache_folder(monkeypatch, tmp_path):
    assert _cache.cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("RANVIER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    expected = {
        "linux": tmp_path / "xdg" / "ranvier",
        "darwin": tmp_path / "Library" / "Caches" / "ranvier",
        "win32": tmp_path / "local" / "ranvier" / "ranvier" / "Cache",
    }
    for platform, folder in expected.items():
        monkeypatch.setattr(sys, "platform", platform)
        assert _cache.cache_folder() == folder
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert _cache.cache_folder() == tmp_path / ".cache" / "ranvier"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert _cache.cache_folder() == tmp_path / ".cache" / "ranvier"


def test_cache_folder_is_poochs(monkeypatch):
    pooch = pytest.importorskip("pooch", reason="pooch is not installed")
    monkeypatch.delenv("RANVIER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert _cache.cache_folder() == pooch.os_cache("ranvier")


# mnist: downloading, from servers on this machine


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """Makes mirrors: `mirrors(name, files)` serves the folder `name`, and `requested` records."""
    pytest.importorskip("pooch", reason="pooch is not installed")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    requested = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            super().do_GET()

        def log_message(self, format, *args):
            """Silent: the base class writes to stderr."""

    root = tmp_path / "server"
    root.mkdir()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=root)
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def make(name, files):
        (root / name).mkdir()
        for file, content in files.items():
            (root / name / file).write_bytes(content)
        return f"http://127.0.0.1:{server.server_port}/{name}/"

    make.requested = requested
    yield make
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def published(monkeypatch):
    """The small set as published archives: name -> content, with the hashes to match."""
    contents, arrays = small_set()
    archives = {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
    hashes = {name: hashlib.sha256(archives[f"{name}.gz"]).hexdigest() for name in contents}
    monkeypatch.setattr(mnist, "SHA256", hashes)
    return archives, arrays


def cached(tmp_path):
    return {file.name: file.read_bytes() for file in (tmp_path / "cache" / "mnist").iterdir()}


def test_download_fills_the_cache_once(tmp_path, monkeypatch, mirrors, published):
    archives, arrays = published
    monkeypatch.setattr(mnist, "MIRRORS", (mirrors("good", archives),))
    assert_holds(mnist.load_data(), arrays)
    assert cached(tmp_path) == archives
    assert len(mirrors.requested) == 4
    assert_holds(mnist.load_data(), arrays)
    assert len(mirrors.requested) == 4


def test_download_gets_only_what_the_cache_lacks(tmp_path, monkeypatch, mirrors, published):
    archives, arrays = published
    monkeypatch.setattr(mnist, "MIRRORS", (mirrors("good", archives),))
    mnist.load_data()
    (tmp_path / "cache" / "mnist" / f"{TEST_LABELS}.gz").unlink()
    mirrors.requested.clear()
    assert_holds(mnist.load_data(), arrays)
    assert mirrors.requested == [f"/good/{TEST_LABELS}.gz"]


def test_download_skips_mirrors_that_fail(tmp_path, monkeypatch, mirrors, published):
    archives, arrays = published
    wrong = {name: content[:-1] for name, content in archives.items()}
    with_page = dict.fromkeys(archives, b"<html>Sign in</html>")
    order = [mirrors("empty", {}), mirrors("wrong", wrong), mirrors("page", with_page)]
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        order.append(f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}/closed/")
        order.append(mirrors("good", archives))
        monkeypatch.setattr(mnist, "MIRRORS", tuple(order))
        assert_holds(mnist.load_data(), arrays)
    assert cached(tmp_path) == archives
    # The failing mirrors are asked for the first file only.
    asked = [path.split("/")[1] for path in mirrors.requested]
    assert asked == ["empty", "wrong", "page", "good", "good", "good", "good"]
    assert mnist.MIRRORS == tuple(order)


def test_download_takes_each_file_from_a_mirror_that_has_it(
    tmp_path, monkeypatch, mirrors, published
):
    archives, arrays = published
    names = list(archives)
    one = {name: archives[name] for name in names[::2]}
    two = {name: archives[name] for name in names[1::2]}
    monkeypatch.setattr(mnist, "MIRRORS", (mirrors("one", one), mirrors("two", two)))
    assert_holds(mnist.load_data(), arrays)
    assert cached(tmp_path) == archives


def test_download_that_fails_everywhere_lists_the_mirrors_and_leaves_no_file(
    tmp_path, monkeypatch, mirrors, published
):
    archives, _ = published
    some = {name: archives[name] for name in list(archives)[:1]}
    wrong = {name: content + b"\0" for name, content in archives.items()}
    order = (mirrors("some", some), mirrors("wrong", wrong))
    monkeypatch.setattr(mnist, "MIRRORS", order)
    with pytest.raises(ConnectionError) as caught:
        mnist.load_data()
    message = str(caught.value)
    assert f"no mirror delivered {TRAIN_LABELS}.gz" in message
    assert all(f"{mirror}{TRAIN_LABELS}.gz: " in message for mirror in order)
    assert "404" in message and "does not match the known hash" in message
    assert "path=" in message and "RANVIER_DATA" in message
    assert cached(tmp_path) == some  # the whole file stays, and nothing half written


def test_download_cut_short_leaves_no_file(tmp_path, monkeypatch, mirrors, published):
    archives, _ = published
    mirror = mirrors("cut", archives)

    def send_half(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2])  # the header promised all of it

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", send_half)
    monkeypatch.setattr(mnist, "MIRRORS", (mirror,))
    with pytest.raises(ConnectionError, match=f"no mirror delivered {TRAIN_IMAGES}.gz"):
        mnist.load_data()
    assert cached(tmp_path) == {}


def test_published_hashes_and_mirrors_are_well_formed():
    """A slip of the keyboard in the constants would only show in a real download."""
    assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in mnist.SHA256.values())
    assert len(set(mnist.SHA256.values())) == 4
    assert len(REAL_MIRRORS) >= 2
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in REAL_MIRRORS)
