"""Results for people and for programs: tables, figures, JSON, one page.

`write` makes all of it; the parts are here for other uses. A section is what
`evaluate.run_many` returns: several methods on the same episodes of one
protocol. Matplotlib is loaded when a figure is drawn.

  rows       a section                     -> its numbers, paired differences
  tables     sections                      -> terminal, Markdown, JSON values
  figures    sections                      -> accuracy by method, by hardness
  curves     a section                     -> what happened step by step
  sheet      a section                     -> an episode chosen by a rule
  pictures   a sheet                       -> the episode, query by query
  page       sections, figures, provenance -> one HTML page
  assemble   all of it                     -> the files of a run
"""

from fsl_jax.report import figures, page, rows, sheet, svg, tables
from fsl_jax.report.assemble import all_figures, write
from fsl_jax.report.curves import adaptation_curves
from fsl_jax.report.figures import (
  accuracy_against_hardness,
  accuracy_by_method,
)
from fsl_jax.report.page import Figure, html
from fsl_jax.report.pictures import episode_sheet
from fsl_jax.report.rows import BASELINE, Section
from fsl_jax.report.sheet import Choice, Sheet, median_difference, most_changed
from fsl_jax.report.svg import save
from fsl_jax.report.tables import markdown, summary, terminal

__all__ = [
  "BASELINE",
  "Choice",
  "Figure",
  "Section",
  "Sheet",
  "accuracy_against_hardness",
  "accuracy_by_method",
  "adaptation_curves",
  "all_figures",
  "episode_sheet",
  "figures",
  "html",
  "markdown",
  "median_difference",
  "most_changed",
  "page",
  "rows",
  "save",
  "sheet",
  "summary",
  "svg",
  "tables",
  "terminal",
  "write",
]
