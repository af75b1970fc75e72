"""A cell's result for a terminal."""

from typing import Any


def of_result(result: dict[str, Any]) -> str:
  """One line per number, with what the paper has and the verdict."""
  lines = [f"{result['name']}, budget {result['budget']['name']}"]
  for row in result["rows"]:
    line = f"  {_protocol(row)} {row['variant']}: {_plus_minus(row)}"
    line += f", std {_number(row['std'])}, n = {row['num_episodes']}"
    if row["paper"] is not None:
      line += f"; paper {_plus_minus(row['paper'])}"
    lines.append(f"{line}; {_verdict(row)}")
  for pair in result["paired"]:
    line = f"  {_protocol(pair)} {pair['variant']} - {pair['against']}: "
    lines.append(f"{line}{_plus_minus(pair, '+')}; {_verdict(pair)}")
  for fit in result["lines"]:
    lines.append(
      f"  {fit['variant']}: slope {_number(fit['slope'])} %/nat, area "
      f"{_number(fit['area'])} % nats, n = {fit['num_episodes']}"
    )
  for time in result["times"]:
    line = f"  {time['what']}: {time['seconds_per_episode']:.3g} s an episode"
    lines.append(line + f", paper {time['paper']} s" * bool(time["paper"]))
  return "\n".join(lines)


def _protocol(row: dict[str, Any]) -> str:
  return f"{row['ways']}-way {row['shots']}-shot {row['queries']}-query"


def _verdict(row: dict[str, Any]) -> str:
  if row["verdict"] == "none":
    return f"no verdict: {row['reason']}"
  return row["verdict"]


def _plus_minus(row: dict[str, Any], sign: str = "") -> str:
  ci95 = row["ci95"]
  return _number(row["mean"], sign) + (f" ± {ci95:.2f}" if ci95 else "")


def _number(value: float | None, sign: str = "") -> str:
  return "none" if value is None else f"{value:{sign}.2f}"
