"""The paper's tables and figures, one cell at a time.

  published   the paper's figures, as data
  cells       what is computed: networks, variants of methods, jobs
  programme   the cells of each table, figure and ablation
  budgets     how much of the programme is done
  cost        floating-point operations of a cell, and hours on this device
  work        pre-training and evaluation, each where it was left
  compute     seconds per episode
  outcome     a finished cell: numbers beside those of the paper
  verdicts    the rule that compares them
  provenance  where they come from
  store       the files of results, one per cell
  status      which cells are done, running, missing
  summary     a result for the terminal

From the files of results to README, docs and figures:

  wording     names and formats of numbers
  tables, analyses     Markdown
  figures, intervals   SVG
  page        which text and figure goes where
"""
