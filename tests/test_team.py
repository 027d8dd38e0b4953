"""The threads: who gets them, when they sleep, and what happens where there are none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import ranvier
from ranvier import layers, ops

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PRODUCT = """
import json, os
import numpy as np
import ranvier

def product():  # shared among threads
    return float(ranvier.ops.dense(*np.ones((2, 500, 500), np.float32)).sum())

def tasks():
    return set(os.listdir("/proc/self/task"))
"""


def result_of(code, **options):
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("variable", "count"),
    [("3", 3), ("2,4", 2), ("1", 1), ("many", None), ("0", None), ("-1", None), (None, None)],
)
def test_number_of_threads_at_first(variable, count):
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if variable is not None:
        env["OMP_NUM_THREADS"] = variable
    if count is None:
        affinity = getattr(os, "sched_getaffinity", None)
        count = len(affinity(0)) if affinity else os.cpu_count()
    assert result_of("print(ranvier.num_threads())", env=env) == count


def test_callers_at_the_same_time(threads):
    """One gets the threads, the others work alone; all get the same bits."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 300), dtype=np.float32)
    w = rng.standard_normal((300, 250), dtype=np.float32)
    threads(1)
    expected = ops.dense(x, w)
    threads(3)
    wrong = []

    def call():
        for _ in range(100):
            if not np.array_equal(ops.dense(x, w), expected):
                wrong.append(threading.get_ident())

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_a_call_inside_a_shared_run(threads):
    """A layer in NumPy asks for threads while the step that it belongs to has them."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((500, 500), dtype=np.float32)

    class Product(layers.NumpyLayer):
        def forward(self, x, *, training=False):
            return ops.dense(x, w), lambda dy: ops.dense(dy, np.ascontiguousarray(w.T))

    def trained():
        ranvier.utils.set_random_seed(1)
        model = ranvier.Sequential([layers.Input((500,)), Product(), layers.Dense(300, "relu")])
        model.compile("sgd", "mse")
        model.fit(x, x[:, :300], batch_size=200, epochs=10, verbose=0)
        return model.get_weights()

    x = rng.standard_normal((400, 500), dtype=np.float32)
    threads(1)
    alone = trained()
    threads(2)
    for a, b in zip(alone, trained(), strict=True):
        np.testing.assert_array_equal(a, b)


@LINUX
def test_threads_sleep_and_leave_signals_alone():
    states, blocked = result_of(
        """
        import signal, time
        ranvier.set_num_threads(3)
        before = tasks()
        product()
        ours = tasks() - before
        def state(task):
            return open(f"/proc/self/task/{task}/stat").read().rpartition(")")[2].split()[0]
        def blocks(task):
            text = open(f"/proc/self/task/{task}/status").read()
            return bool(int(text.split("SigBlk:")[1].split()[0], 16) >> signal.SIGINT - 1 & 1)
        until = time.monotonic() + 60
        while {state(task) for task in ours} != {"S"} and time.monotonic() < until:
            time.sleep(0.01)
        first = [state(task) for task in ours]
        assert product() == 500**3  # they wake up
        print(json.dumps([first, [blocks(task) for task in ours]]))
        """
    )
    assert states == ["S", "S"]
    assert blocked == [True, True]


@LINUX
def test_a_forked_child_has_threads_of_its_own():
    child = result_of(
        """
        ranvier.set_num_threads(3)
        product()
        end, start = os.pipe()
        if os.fork() == 0:
            before = tasks()
            answer = product()
            os.write(start, json.dumps([len(before), len(tasks()), answer]).encode())
            os._exit(0)
        os.wait()
        print(os.read(end, 1000).decode())
        """
    )
    assert child == [1, 3, 500**3]


@LINUX
def test_without_threads_the_caller_works_alone():
    count, answer, later = result_of(
        """
        import resource
        ranvier.set_num_threads(1)
        product()  # has the memory it needs
        ranvier.set_num_threads(2)
        text = open("/proc/self/status").read()
        used = int(text.split("VmSize:")[1].split()[0]) << 10
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        before = tasks()
        resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), hard))  # not a stack's
        answer = product()
        count = len(tasks() - before)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        later = product()
        print(json.dumps([count, answer, len(tasks() - before)]))
        """
    )
    assert answer == 500**3
    assert (count, later) == (0, 1)  # and has them as soon as they can be had
