"""Views of results for people: tables, figures, one page.

  summary = results.summarise(sections, class_names)
  report.write(folder, summary, title=...)
  print(report.terminal(summary))

table, tables    what a table is; those of a run: terminal, Markdown, page
figures          charts: accuracy, hardness, what happened step by step
hardness_chart   accuracy against hardness; sweep: along one number
image_grids      single episodes as images
page             a page and the files of a run
comparison       two runs on the same episodes
pooling          runs that differ in their pre-training
dataset          hardness of a data set
"""

from fsl_jax.report import (
  comparison,
  dataset,
  hardness_chart,
  pooling,
  svg,
  sweep,
)
from fsl_jax.report.figures import Figure
from fsl_jax.report.page import all_figures, html, write
from fsl_jax.report.selection import (
  Choice,
  Exhibit,
  Gallery,
  Selection,
  Sheet,
  both_directions,
  extremes,
)
from fsl_jax.report.tables import markdown, terminal

__all__ = [
  "Choice",
  "Exhibit",
  "Figure",
  "Gallery",
  "Selection",
  "Sheet",
  "all_figures",
  "both_directions",
  "comparison",
  "dataset",
  "extremes",
  "hardness_chart",
  "html",
  "markdown",
  "pooling",
  "svg",
  "sweep",
  "terminal",
  "write",
]
