"""The command line: `python -m ranvier`."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys

import pytest

import ranvier
from ranvier.__main__ import main

ACCURACY = re.compile(r"held-out accuracy (\d+\.\d\d)% \((\d+) of 359 digits\), loss \d+\.\d{4}\n")


def ranvier_command(*arguments, timeout=60):
    """Run it as a user does, in a process of its own."""
    command = [sys.executable, "-W", "error", "-m", "ranvier", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


def failure(capsys, *arguments, code=2):
    """The line on stderr of a call that must fail."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    return said.err


# --- train ----------------------------------------------------------------------------------------


def test_train_reaches_97_percent():
    done = ranvier_command("train")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "64-256-128-10, 50826 parameters; 1438 digits, 359 held out" in done.stdout
    assert "Epoch 50/50" in done.stdout
    percent, right = ACCURACY.search(done.stdout).groups()
    assert float(percent) >= 97
    assert int(right) == round(float(percent) * 3.59)


def test_train_shows_as_much_as_it_is_told(capsys):
    assert main(["train", "--epochs", "2", "--verbose", "0"]) == 0
    silent = capsys.readouterr().out
    assert ACCURACY.fullmatch(silent)
    assert main(["train", "--epochs", "2", "--verbose", "2"]) == 0
    lines = capsys.readouterr().out.splitlines(keepends=True)
    assert len(lines) == 4
    for i, line in enumerate(lines[1:3], start=1):
        assert re.match(rf"Epoch {i}/2 - .* - loss: .* - accuracy: .* - val_loss: .*", line)
    assert lines[3] == silent  # the same seed, the same net


def test_train_takes_its_options(capsys):
    def run(*options):
        assert main(["train", "--epochs", "1", "--verbose", "0", *options]) == 0
        return capsys.readouterr().out

    usual = run()
    assert run("--seed", "0") == usual
    assert run("--seed", "1") != usual
    assert run("--batch-size", "100") != usual
    assert run("--learning-rate", "0.01") != usual
    assert run("--hidden", "32", "16", "8") != usual
    main(["train", "--epochs", "1", "--verbose", "2", "--hidden", "32", "16", "8"])
    parameters = 64 * 32 + 32 + 32 * 16 + 16 + 16 * 8 + 8 + 8 * 10 + 10
    assert f"64-32-16-8-10, {parameters} parameters" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["curves.png", "curves.SVG"])
def test_train_draws_its_curves(name, tmp_path, capsys):
    file = tmp_path / name
    assert main(["train", "--epochs", "2", "--verbose", "0", "--plot", str(file)]) == 0
    assert capsys.readouterr().out.endswith(f"curves in {file}\n")
    begins = {"png": b"\x89PNG", "svg": b"<?xml"}[name[-3:].lower()]
    assert file.read_bytes().startswith(begins)


def test_a_file_that_cannot_be_drawn_in_stops_it_before_training(tmp_path, capsys):
    line = failure(capsys, "train", "--plot", str(tmp_path / "curves.xyz"))
    assert "ranvier train: error: --plot" in line
    assert "png" in line
    missing = tmp_path / "nowhere" / "curves.png"
    assert f"there is no folder {missing.parent}" in failure(
        capsys, "train", "--plot", str(missing)
    )


def test_a_folder_in_the_files_place_is_told(tmp_path, capsys):
    taken = tmp_path / "curves.png"
    taken.mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["train", "--epochs", "1", "--verbose", "0", "--plot", str(taken)])
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert ACCURACY.match(said.out)  # the training is not lost
    assert said.err.startswith(f"ranvier train: error: cannot write {taken}: ")
    assert said.err.count("\n") == 1


def test_without_matplotlib_the_line_says_what_to_install(monkeypatch, capsys):
    real = builtins.__import__

    def without(name, *rest, **options):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    line = failure(capsys, "train", "--plot", "curves.png")
    assert line == ('ranvier train: error: --plot needs matplotlib: pip install "ranvier[plot]"\n')


def test_ctrl_c_ends_it_in_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(ranvier.Model, "fit", interrupted)
    assert main(["train", "--verbose", "0"]) == 130
    assert capsys.readouterr().err == "\nranvier train: interrupted\n"


def test_a_net_too_large_for_the_memory_ends_in_one_line(monkeypatch, capsys):
    def too_large(*_, **__):
        raise MemoryError

    monkeypatch.setattr(ranvier, "Sequential", too_large)
    line = failure(capsys, "train", "--verbose", "0", code=1)
    assert line == "ranvier train: error: not enough memory for this net\n"


# --- the rest -------------------------------------------------------------------------------------


def test_info_shows_the_configuration(capsys):
    ranvier.show_config()
    expected = capsys.readouterr().out
    assert main(["info"]) == 0
    assert capsys.readouterr().out == expected
    assert f"ranvier   {ranvier.__version__}" in expected


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"ranvier {ranvier.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["usage: ranvier", "train", "info", "examples:", "--version"]),
        ([], ["usage: ranvier", "train", "info", "examples:"]),
        (["info", "--help"], ["usage: ranvier info"]),
        (
            ["train", "--help"],
            ["usage: ranvier train", "--epochs", "--batch-size", "--hidden", "--seed",
             "--learning-rate", "--verbose", "--plot", "default: 50", "default: 256 128"],
        ),
    ],
    ids=["help", "nothing", "info", "train"],
)  # fmt: skip
def test_help(arguments, words):
    done = ranvier_command(*arguments)
    assert done.returncode == 0
    assert done.stderr == ""
    text = " ".join(done.stdout.split())
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fly"], "ranvier: error: argument COMMAND: invalid choice: 'fly'"),
        (["--fly"], "ranvier: error: unrecognized arguments: --fly"),
        (["train", "--fly"], "unrecognized arguments: --fly"),
        (["train", "--epoch", "3"], "unrecognized arguments: --epoch"),
        (["train", "3"], "unrecognized arguments: 3"),
        (["info", "--epochs", "3"], "unrecognized arguments: --epochs"),
        (["train", "--epochs"], "ranvier train: error: argument --epochs: expected one argument"),
        (
            ["train", "--epochs", "0"],
            "--epochs: must be an integer from 1 to 1000000; received '0'",
        ),
        (["train", "--epochs", "2.5"], "--epochs: must be an integer from 1"),
        (["train", "--batch-size", "-1"], "--batch-size: must be an integer from 1"),
        (["train", "--hidden"], "--hidden: expected at least one argument"),
        (["train", "--hidden", "64", "0"], "--hidden: must be an integer from 1"),
        (["train", "--seed", "-1"], "--seed: must be an integer from 0 to 4294967295"),
        (["train", "--seed", "4294967296"], "--seed: must be an integer from 0 to 4294967295"),
        (["train", "--learning-rate", "0"], "--learning-rate: must be a number above 0"),
        (["train", "--learning-rate", "inf"], "--learning-rate: must be a number above 0"),
        (["train", "--learning-rate", "nan"], "--learning-rate: must be a number above 0"),
        (["train", "--learning-rate", "x"], "must be a number above 0; received 'x'"),
        (["train", "--verbose", "3"], "--verbose: invalid choice: 3"),
        (["train", "--plot"], "--plot: expected one argument"),
    ],
    ids=" ".join,
)
def test_what_does_not_fit_ends_in_one_line(arguments, told, capsys):
    line = failure(capsys, *arguments)
    assert line.startswith("ranvier")
    assert told in line


def test_the_exit_code_reaches_the_shell():
    done = ranvier_command("train", "--epochs", "none")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "ranvier train: error: argument --epochs: must be an integer from 1 to 1000000; "
        "received 'none'\n"
    )


def test_help_loads_no_optional_package():
    code = (
        "import sys; from ranvier.__main__ import main; main([]); main(['info']);"
        "print([m for m in ('matplotlib', 'tqdm', 'pooch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.endswith("[]\n")
