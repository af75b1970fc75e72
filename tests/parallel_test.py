"""The ordered map over processes: order, bounds, failures, and its end."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from fsl_jax import types
from fsl_jax.data import parallel

_ROOT = pathlib.Path(__file__).parent.parent


def _double(x):
  # Later items finish earlier.
  time.sleep(0.02 if x % 4 == 0 else 0)
  return 2 * x


def _fail_at_3(x):
  if x == 3:
    raise types.InputError("three is one too many")
  return x


def _die_at_3(x):
  if x == 3:
    os.kill(os.getpid(), signal.SIGKILL)
  return x


def _process(x):
  del x
  return os.getpid()


def _touch(path):
  pathlib.Path(path).touch()
  time.sleep(0.05)
  return path


def _sum(x):
  return int(x.sum())


def _no_memory():
  raise MemoryError


class _TooLarge:
  """Cannot be held where it arrives."""

  def __reduce__(self):
    return _no_memory, ()


def _too_large(x):
  del x
  return _TooLarge()


class _Counted:
  """Items, and how many were drawn."""

  def __init__(self, n):
    self.n, self.drawn = n, 0

  def __iter__(self):
    for i in range(self.n):
      self.drawn += 1
      yield i


@pytest.mark.parametrize("workers", [0, 2])
class TestOrdered:
  def test_results_are_in_order(self, workers):
    results = list(parallel.ordered(_double, range(40), workers=workers))
    assert results == [(i, 2 * i) for i in range(40)]

  def test_nothing_in_nothing_out(self, workers):
    assert list(parallel.ordered(_double, [], workers=workers)) == []

  def test_look_ahead_is_bounded(self, workers):
    items = _Counted(100)
    results = parallel.ordered(_double, items, workers=workers)
    for i in range(30):
      next(results)
      time.sleep(0.005)  # a slow consumer
      assert i + 1 <= items.drawn <= i + max(1, 3 * workers)
    results.close()
    assert items.drawn < 40

  def test_errors_keep_type_and_message(self, workers):
    results = parallel.ordered(_fail_at_3, range(100), workers=workers)
    assert [next(results)[1] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(types.InputError, match=r"^three is one too many$"):
      next(results)
    assert next(results, None) is None

  def test_errors_of_the_items_come_through(self, workers):
    def items():
      yield 1
      raise types.InputError("no second item")

    with pytest.raises(types.InputError, match=r"^no second item$"):
      list(parallel.ordered(_double, items(), workers=workers))

  def test_after_an_error_it_works_again(self, workers):
    with pytest.raises(types.InputError):
      list(parallel.ordered(_fail_at_3, range(9), workers=workers))
    results = parallel.ordered(_double, range(5), workers=workers)
    assert [r for _, r in results] == [0, 2, 4, 6, 8]


class TestProcesses:
  def test_work_is_done_elsewhere(self):
    # JAX has started its threads: a fork would warn, and might hang.
    assert jax.numpy.ones(3).sum() == 3
    found = {p for _, p in parallel.ordered(_process, range(20), workers=2)}
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2
    here = {p for _, p in parallel.ordered(_process, range(3), workers=0)}
    assert here == {os.getpid()}

  def test_arrays_travel(self):
    arrays = [np.full((100, 100), i, np.uint8) for i in range(8)]
    results = parallel.ordered(_sum, arrays, workers=2)
    assert [total for _, total in results] == [10_000 * i for i in range(8)]

  def test_a_killed_worker_is_one_sentence(self):
    with pytest.raises(types.InputError, match="worker process was killed"):
      list(parallel.ordered(_die_at_3, range(50), workers=2))
    results = parallel.ordered(_double, range(5), workers=2)
    assert len(list(results)) == 5

  def test_a_result_too_large_is_one_sentence(self):
    with pytest.raises(types.InputError, match="ran out of memory"):
      list(parallel.ordered(_too_large, range(5), workers=2))

  def test_an_abandoned_iterator_leaves_no_work(self, tmp_path):
    paths = [str(tmp_path / str(i)) for i in range(200)]
    results = parallel.ordered(_touch, paths, workers=2)
    next(results)
    results.close()
    time.sleep(0.5)  # what was running ends
    left = len(list(tmp_path.iterdir()))
    assert left <= 6
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == left

  def test_another_number_of_workers_waits_for_the_work_left(self, tmp_path):
    paths = [str(tmp_path / str(i)) for i in range(20)]
    results = parallel.ordered(_touch, paths, workers=2)
    next(results)
    results.close()
    fewer = parallel.ordered(_process, range(10), workers=1)
    assert len({process for _, process in fewer}) == 1

  def test_two_iterators_at_once(self):
    one = parallel.ordered(_double, range(20), workers=2)
    other = parallel.ordered(_process, range(20), workers=2)
    for i in range(20):
      assert next(one)[1] == 2 * i
      assert next(other)[0] == i


def _alive(process):
  try:
    state = pathlib.Path(f"/proc/{process}/stat").read_text()
  except FileNotFoundError:
    return False
  return state.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(
  not pathlib.Path("/proc").is_dir(), reason="looks at processes in /proc"
)
def test_workers_end_when_the_parent_is_killed(tmp_path):
  # A script with neither a guard for __main__ nor an importable function.
  script = tmp_path / "script.py"
  script.write_text("""
import os, sys, time
from fsl_jax.data import parallel
def work(x):
  time.sleep(0.01)
  return os.getpid()
print("begun", flush=True)
for x, worker in parallel.ordered(work, iter(int, 1), workers=2):
  print(worker, flush=True)
""")
  with subprocess.Popen(
    [sys.executable, "-W", "error", str(script)],
    stdout=subprocess.PIPE,
    text=True,
    cwd=_ROOT,
  ) as process:
    assert process.stdout is not None
    # Once: the workers do not run the script again.
    assert process.stdout.readline() == "begun\n"
    workers = {int(process.stdout.readline()) for _ in range(30)}
    assert process.pid not in workers
    assert all(map(_alive, workers))
    process.kill()
  deadline = time.monotonic() + 15
  while any(map(_alive, workers)):
    assert time.monotonic() < deadline, "a worker outlived its parent"
    time.sleep(0.05)


def test_workers_watch_before_they_import_anything_large():
  """Else a parent that is killed early leaves them behind for seconds."""
  worker = """
import pickle, sys
end_with, parent = pickle.load(sys.stdin.buffer)
assert not {"fsl_jax", "jax", "numpy"} & set(sys.modules)
end_with(parent)
print("watching", flush=True)
import time
time.sleep(60)
"""
  parent = """
import io, os, subprocess, sys
from loky.backend import reduction
from fsl_jax.data import parallel
pickled = io.BytesIO()
reduction.dump((parallel._END_WITH, os.getpid()), pickled)
worker = subprocess.Popen(
  [sys.executable, "-c", sys.argv[1]],
  stdin=subprocess.PIPE,
  stdout=subprocess.PIPE,
)
worker.stdin.write(pickled.getvalue())
worker.stdin.close()
print(worker.pid, worker.stdout.readline().decode(), flush=True)
worker.wait()
"""
  with subprocess.Popen(
    [sys.executable, "-c", parent, worker], stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout is not None
    pid, said = process.stdout.readline().split()
    process.kill()
  assert said == "watching"
  deadline = time.monotonic() + 15
  while _alive(int(pid)):
    assert time.monotonic() < deadline, "the worker outlived its parent"
    time.sleep(0.05)


def test_a_script_ends_by_itself(tmp_path):
  script = tmp_path / "script.py"
  script.write_text("""
from fsl_jax.data import parallel
print(sum(y for _, y in parallel.ordered(abs, range(-9, 0), workers=2)))
""")
  done = subprocess.run(
    [sys.executable, "-W", "error", str(script)],
    capture_output=True,
    text=True,
    cwd=_ROOT,
    timeout=60,
  )
  assert (done.stdout, done.stderr) == ("45\n", "")


def test_few_pictures_start_no_process(monkeypatch):
  assert parallel.num_workers(parallel.MIN_PICTURES - 1) == 0
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
  assert parallel.num_workers(parallel.MIN_PICTURES) == 3
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
  assert parallel.num_workers(10**9) == 0
