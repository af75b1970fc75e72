"""Results for people and for programs: tables, figures, JSON, one page.

`write` makes all of it; the parts are here for other uses. A section is what
`evaluate.run_many` returns: several methods on the same episodes of one
protocol. Matplotlib is loaded when a figure is drawn.

  rows             a section                     -> its numbers
  tables           sections                      -> terminal, Markdown
  behaviour        a section                     -> what adaptation changed
  classes          a section                     -> accuracy by class
  values           sections                      -> JSON values
  figures          sections                      -> accuracy by method, hardness
  curves           a section                     -> what happened step by step
  sweep            sections along an axis        -> accuracy by ways, shots, ...
  sheet, pictures  a section                     -> one episode by a rule, drawn
  gallery, thumbnails                            -> hardest, easiest episodes
  page             sections, figures, provenance -> one HTML page
  hardness_chart   lines and means              -> accuracy against hardness
  outcome          sections                      -> the first sentence of a page
  assemble         all of it                     -> the files of a run
  dataset_tables, dataset_page                   -> hardness of a data set
  comparison       sections of two runs          -> differences, verdicts
  comparison_page  the same                      -> the files of a comparison
"""

from fsl_jax.report import (
  figures,
  page,
  rows,
  sheet,
  sorting,
  svg,
  sweep,
  tables,
)
from fsl_jax.report.assemble import all_figures, write
from fsl_jax.report.comparison import json_values as comparison_json
from fsl_jax.report.comparison import terminal as comparison_terminal
from fsl_jax.report.comparison_page import write as write_comparison
from fsl_jax.report.curves import adaptation_curves
from fsl_jax.report.document import Figure
from fsl_jax.report.figures import (
  accuracy_against_hardness,
  accuracy_by_method,
)
from fsl_jax.report.gallery import Exhibit, Gallery, Selection, extremes
from fsl_jax.report.page import html
from fsl_jax.report.pictures import episode_sheet
from fsl_jax.report.pooling import terminal as pooling_terminal
from fsl_jax.report.rows import BASELINE, Section
from fsl_jax.report.sheet import (
  Choice,
  Sheet,
  both_directions,
  median_difference,
)
from fsl_jax.report.svg import save
from fsl_jax.report.tables import markdown, terminal
from fsl_jax.report.thumbnails import episode_thumbnails
from fsl_jax.report.values import summary

__all__ = [
  "BASELINE",
  "Choice",
  "Exhibit",
  "Figure",
  "Gallery",
  "Section",
  "Selection",
  "Sheet",
  "accuracy_against_hardness",
  "accuracy_by_method",
  "adaptation_curves",
  "all_figures",
  "comparison_json",
  "comparison_terminal",
  "episode_sheet",
  "episode_thumbnails",
  "extremes",
  "figures",
  "html",
  "markdown",
  "median_difference",
  "both_directions",
  "page",
  "pooling_terminal",
  "rows",
  "save",
  "sheet",
  "sorting",
  "summary",
  "svg",
  "sweep",
  "tables",
  "terminal",
  "write",
  "write_comparison",
]
