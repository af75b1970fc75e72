"""The paper's tables and figures, one cell at a time.

  published   the paper's figures as data, and the rule that compares ours
  cells       what is computed: networks, variants of methods, jobs, budgets
  programme   the cells of each table, figure and ablation
  work        pre-training and evaluation, with everything continued
  cost        floating-point operations of a cell, hours and seconds here
  outcome     a finished cell as JSON: numbers beside the paper's, provenance
  store       the files of results, one per cell; which are done or missing

From the files of results to README, docs and figures:

  wording     names and formats of numbers
  tables      Markdown
  figures     SVG
  page        which text and figure goes where
"""
