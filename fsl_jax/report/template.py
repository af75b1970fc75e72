"""The look of a page: nothing fetched, light and dark, print."""

from fsl_jax.report import sorting, svg

CSS = (
  """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --ink: #1f2328; --faint: #57606a; --rule: #d8dee4;
  --band: #f6f8fa; --accent: #0072b2; --shade: rgba(31, 35, 40, .16);
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181d; --ink: #e3e7ec; --faint: #9aa4af; --rule: #343b44;
    --band: #1d2228; --accent: #6cb6e8; --shade: rgba(255, 255, 255, .16);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 FONTS;
}
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 2.6rem 0 .8rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
h2, h3 { break-after: avoid; }
p { max-width: 72ch; margin: .5rem 0; }
.lead { color: var(--faint); }
.small, figcaption { color: var(--faint); font-size: .875rem; }
.scroll {
  overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px;
  /* A shadow at the edge behind which there is more. */
  background:
    linear-gradient(90deg, var(--ground) 40%, transparent) 0 / 40px 100%,
    linear-gradient(-90deg, var(--ground) 40%, transparent) 100% / 40px 100%,
    linear-gradient(90deg, var(--shade), transparent) 0 / 12px 100%,
    linear-gradient(-90deg, var(--shade), transparent) 100% / 12px 100%;
  background-repeat: no-repeat;
  background-attachment: local, local, scroll, scroll;
}
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td {
  padding: .5rem .7rem; text-align: right; vertical-align: baseline;
  white-space: nowrap; font-variant-numeric: tabular-nums;
}
th:first-child, .words { text-align: left; }
.words { white-space: normal; min-width: 13rem; }
thead th {
  color: var(--faint); font-weight: 600; font-size: .8125rem;
  vertical-align: bottom;
}
thead button {
  all: unset; cursor: pointer; box-sizing: border-box; border-radius: 4px;
}
thead button:focus-visible { outline: 2px solid var(--accent); }
thead button::after { content: " ↕"; opacity: .45; }
th[aria-sort] button { color: var(--ink); }
th[aria-sort] button::after { content: " ↑"; opacity: 1; }
th[aria-sort=descending] button::after { content: " ↓"; }
tbody tr { border-top: 1px solid var(--rule); }
tbody th {
  font-weight: 600; white-space: normal; overflow-wrap: anywhere;
  min-width: 14rem;
}
details { margin: .8rem 0; }
summary { cursor: pointer; padding: .3rem 0; }
details .scroll { max-height: 32rem; overflow-y: auto; }
details thead th { position: sticky; top: 0; background: var(--band); }
th .small { font-weight: 400; font-size: .8125rem; }
.figures { display: grid; gap: 1.6rem 1.4rem; align-items: start; }
@media (min-width: 860px), print {
  .figures { grid-template-columns: 1fr 1fr; }
  /* A last one that is alone in its row has its words beside it. */
  .figures > :last-child:nth-child(odd) {
    grid-column: 1 / -1; display: grid; gap: 1.4rem;
    grid-template-columns: 1.4fr 1fr;
  }
}
@media (max-width: 859px) { .figures { max-width: 560px; } }
figure { margin: 0; min-width: 0; break-inside: avoid; }
.card {
  background: #ffffff; border: 1px solid var(--rule); border-radius: 8px;
  padding: 10px; overflow: hidden;
}
.card svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; }
figcaption b { color: var(--ink); }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); }
.facts { columns: 2 24rem; column-gap: 2.4rem; }
.facts section { break-inside: avoid-column; padding-bottom: 1.2rem; }
.facts h3 { margin: 0 0 .2rem; }
dl { margin: 0; font-size: .8125rem; }
dl div {
  display: flex; gap: 1rem; justify-content: space-between; padding: .18rem 0;
  border-bottom: 1px solid var(--rule);
}
dt {
  color: var(--faint); flex: none; max-width: 50%; overflow-wrap: anywhere;
}
dd {
  margin: 0; text-align: right; overflow-wrap: anywhere;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
}
@media (max-width: 600px) {
  main { padding: 24px 16px 40px; }
  h1 { font-size: 1.5rem; }
  h2 { font-size: 1.15rem; margin-top: 2rem; }
  th, td { padding: .45rem .6rem; }
  .words { min-width: 9rem; }
  tbody th { min-width: 8.6rem; max-width: 8.6rem; }
  .card { padding: 6px; }
}
@media print {
  :root { color-scheme: light; }
  body { font-size: 11pt; background: #ffffff; color: #000000; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; border: 0; background: none; }
  details .scroll { max-height: none; }
  thead button::after { content: none; }
}
"""
).replace("FONTS", svg.FONTS)

# No request can leave the page and no other script can run, whatever a name in
# it contains.
POLICY = (
  "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
  f"script-src '{sorting.HASH}'; base-uri 'none'; form-action 'none'"
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
<main>
<header>
<h1>{title}</h1>
{lead}
</header>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""
