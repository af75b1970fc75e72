"""The classes of the published splits, with their origin."""

import importlib.resources
import json
from typing import Any


def load(name: str) -> dict[str, Any]:
  """Reads a class list that comes with the library.

  Args:
    name: of a JSON file in this folder, such as "cifar_fs".

  Returns:
    Its content; "origin" names the authors of the list.
  """
  file = importlib.resources.files(__name__) / f"{name}.json"
  return json.loads(file.read_text(encoding="utf-8"))
