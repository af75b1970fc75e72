"""When to save within an epoch, the same in all processes."""

import time
from collections.abc import Callable

from fsl_jax import devices


class SaveTimes:
  """Asks the clock of process 0, rarely, since that waits for the devices.

  Args:
    every_s: seconds from one save to the next.
    now: the clock.
  """

  def __init__(
    self, every_s: float, now: Callable[[], float] = time.perf_counter
  ):
    self._every_s = every_s
    self._now = now
    self.saved()

  def saved(self) -> None:
    """Restarts the clock."""
    self._start = self._now()
    self._steps = 0
    self._ask_at = 1

  def due(self) -> bool:
    """Called once a step; whether to save after it."""
    self._steps += 1
    if self._steps < self._ask_at:
      return False
    wait = _steps_to_wait(self._steps, self._now() - self._start, self._every_s)
    wait = devices.first_of(wait)
    self._ask_at = self._steps + wait
    return wait == 0


def _steps_to_wait(steps: int, elapsed_s: float, every_s: float) -> int:
  """Steps until a save may be due, at the speed so far; 0 if it is due.

  At most the number of steps so far, since the first ones include compilation.
  """
  if elapsed_s >= every_s:
    return 0
  left = int((every_s - elapsed_s) * steps / max(elapsed_s, 1e-9))
  return max(1, min(left, steps))
