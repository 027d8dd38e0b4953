"""The command line: `python -m ranvier`, or `ranvier` where the console script is installed."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ranvier.version import __version__

__all__ = ["main"]

_EXAMPLES = """examples:
  ranvier train
  ranvier train --epochs 20 --hidden 64 64 --plot curves.png
  ranvier bench --plot bench.png
  ranvier info
"""


class _Parser(argparse.ArgumentParser):
    """A wrong option ends in one line, not in the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"must be an integer from {low} to {high}; received {text!r}"
            )
        return value

    return read


def _positive_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; received {text!r}")
    return value


def _parser() -> _Parser:
    parser = _Parser(
        prog="ranvier",
        description="Deep learning on the CPU: train a classifier of handwritten digits, measure "
        "the kernels beside NumPy, or show which ones run here.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ranvier {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    count = _integer(1, 10**6)

    train = commands.add_parser(
        "train",
        help="train a classifier on handwritten digits",
        description="Train a dense net on four fifths of the 1,797 handwritten digits (8x8 pixels) "
        "that come with Ranvier, and report its accuracy on the last fifth, which it never saw. "
        "The split is always the same, so that runs can be compared.",
        allow_abbrev=False,
    )
    add = train.add_argument
    add(
        "--epochs", type=count, default=50, metavar="N",
        help="times through the data (default: %(default)s)",
    )  # fmt: skip
    add(
        "--batch-size", type=count, default=32, metavar="N",
        help="rows in a step (default: %(default)s)",
    )  # fmt: skip
    add(
        "--hidden", type=count, nargs="+", default=[256, 128], metavar="N",
        help="units of each hidden layer (default: 256 128)",
    )  # fmt: skip
    add(
        "--learning-rate", type=_positive_number, default=0.001, metavar="R",
        help="of Adam (default: %(default)s)",
    )  # fmt: skip
    add(
        "--seed", type=_integer(0, 2**32 - 1), default=0, metavar="N",
        help="of the weights, the order of the rows and dropout (default: %(default)s)",
    )  # fmt: skip
    add(
        "--verbose", type=int, choices=[0, 1, 2], default=1,
        help="0: the result only; 1: a progress bar; 2: a line an epoch (default: %(default)s)",
    )  # fmt: skip
    add(
        "--plot", metavar="FILE",
        help="draw loss and accuracy over the epochs (.png, .svg, .pdf); needs matplotlib",
    )  # fmt: skip
    train.set_defaults(run=_train, parser=train)

    bench = commands.add_parser(
        "bench",
        help="measure the kernels beside NumPy",
        description="Measure matrix products, activations, losses and optimizer steps beside NumPy "
        "and beside what this machine can do: multiply-adds without memory, and a stream of as "
        "many bytes, both measured in the same run. Every answer is compared with NumPy's before "
        "it is timed. It takes about 15 seconds, and the machine should do nothing else.",
        allow_abbrev=False,
    )
    add = bench.add_argument
    add("--quick", action="store_true", help="small works and short looks: about two seconds")
    add(
        "--plot", metavar="FILE",
        help="draw the table as bars (.png, .svg, .pdf); needs matplotlib",
    )  # fmt: skip
    add("--json", metavar="FILE", help="write the figures to a file")
    bench.set_defaults(run=_bench, parser=bench)

    info = commands.add_parser(
        "info",
        help="show version, kernels, threads",
        description="Show the version, the kernels chosen for this CPU, threads, compiler, NumPy.",
        allow_abbrev=False,
    )
    info.set_defaults(run=_info, parser=info)
    return parser


def _info(options: argparse.Namespace) -> None:
    from ranvier.system import show_config

    show_config()


def _train(options: argparse.Namespace) -> None:
    plot = options.plot
    if plot is not None:
        _check_plot(options.parser, Path(plot))  # now rather than after the training

    import ranvier
    from ranvier import layers

    (x, y), (x_test, y_test) = ranvier.datasets.digits.load_data()
    ranvier.utils.set_random_seed(options.seed)
    stack = [ranvier.Input((8, 8)), layers.Rescaling(1 / 16), layers.Flatten(), layers.Dropout(0.1)]
    for units in options.hidden:
        stack += [layers.Dense(units, activation="relu"), layers.Dropout(0.3)]
    model = ranvier.Sequential([*stack, layers.Dense(10, activation="softmax")])
    model.compile(
        optimizer=ranvier.optimizers.Adam(options.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    if options.verbose:
        widths = "-".join(map(str, [64, *options.hidden, 10]))
        print(
            f"{widths}, {model.count_params()} parameters; {len(x)} digits, {len(x_test)} held out"
        )
    history = model.fit(
        x,
        y,
        batch_size=options.batch_size,
        epochs=options.epochs,
        verbose=options.verbose,
        validation_data=(x_test, y_test),
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    right = round(accuracy * len(x_test))
    print(f"held-out accuracy {accuracy:.2%} ({right} of {len(x_test)} digits), loss {loss:.4f}")
    if plot is not None:
        _write(options.parser, plot, history.plot)
        print(f"curves in {plot}")


def _bench(options: argparse.Namespace) -> None:
    if options.plot is not None:
        _check_plot(options.parser, Path(options.plot))
    if options.json is not None:
        _check_folder(options.parser, "--json", Path(options.json))

    from ranvier import benchmark

    machine = benchmark.Machine(0.01 if options.quick else 0.15)
    print("\n".join(machine.lines()), flush=True)
    print(benchmark.HEADER)
    works, budget = (benchmark.QUICK, 0.005) if options.quick else (benchmark.WORKS, 0.25)
    rows = []
    try:
        for row in benchmark.rows_of(works, machine, budget):
            print(benchmark.line_of(row), flush=True)
            rows.append(row)
    except AssertionError as error:
        options.parser.exit(1, f"{options.parser.prog}: error: {error}\n")
    if options.plot is not None:
        _write(options.parser, options.plot, lambda file: benchmark.draw_bars(file, machine, rows))
        print(f"bars in {options.plot}")
    if options.json is not None:
        _write(options.parser, options.json, lambda file: benchmark.save(file, machine, rows))
        print(f"figures in {options.json}")


def _write(parser: _Parser, file: str, write: Callable[[str], object]) -> None:
    try:
        write(file)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: error: cannot write {file}: {error}\n")


def _check_plot(parser: _Parser, path: Path) -> None:
    """End with an error if nothing can be drawn in this file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        parser.error('--plot needs matplotlib: pip install "ranvier[plot]"')
    endings = sorted(Figure().canvas.get_supported_filetypes())
    if path.suffix.removeprefix(".").lower() not in endings:
        parser.error(f"--plot {path}: the file's ending must be one of {', '.join(endings)}")
    _check_folder(parser, "--plot", path)


def _check_folder(parser: _Parser, option: str, path: Path) -> None:
    if not path.absolute().parent.is_dir():
        parser.error(f"{option} {path}: there is no folder {path.parent}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, without the program's name; None takes those of the process.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.

    Raises:
        SystemExit: after --help and --version (code 0), for options that do not fit (2), and where
            the command fails (1).
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if not hasattr(options, "run"):
        parser.print_help()
        return 0
    try:
        options.run(options)
    except KeyboardInterrupt:
        print(f"\n{options.parser.prog}: interrupted", file=sys.stderr)
        return 130
    except MemoryError:
        options.parser.exit(1, f"{options.parser.prog}: error: not enough memory for this net\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
