"""The page's look: one style sheet, light and dark, wide and narrow."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1d2126; --quiet: #667079; --line: #e3e5e8;
  --accent: #2f6fad; --accent-soft: #e8f0f8; --good: #1f7a55; --bad: #b3412f;
  --annotation: #d9822b; --fusion: #8b6fb3; --prediction: #3b82c4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --ink: #e6e8ea; --quiet: #98a2ab; --line: #2f353b;
    --accent: #7db3e8; --accent-soft: #1f2d3b; --good: #62c79a; --bad: #ee8a76;
    --annotation: #e8a25c; --fusion: #b19ad4; --prediction: #6aa9e4;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 4rem; -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main, header > div, nav ul, footer { max-width: 1120px; margin: 0 auto; padding: 0 1.5rem; }
header { padding: 3rem 0 1.5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .4rem; font-weight: 650; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 0 0 .3rem; font-weight: 640; letter-spacing: -.01em; }
h3 { font-size: 1rem; margin: 0 0 .7rem; font-weight: 620; overflow-wrap: anywhere; }
h3 small { color: var(--quiet); font-weight: 400; font-size: .875rem; margin-left: .35rem; }
p { margin: 0 0 .8rem; }
.lead, header p { color: var(--quiet); max-width: 46rem; }
.lead { margin-bottom: 1.3rem; }
section { padding: 2.2rem 0; border-top: 1px solid var(--line); }
nav {
  position: sticky; top: 0; z-index: 2; border-bottom: 1px solid var(--line);
  background: color-mix(in srgb, var(--page) 90%, transparent); backdrop-filter: blur(8px);
}
nav ul { display: flex; gap: 1.4rem; list-style: none; overflow-x: auto; scrollbar-width: none; }
nav a {
  display: block; padding: .75rem 0; color: var(--quiet); text-decoration: none;
  font-size: .9rem; white-space: nowrap;
}
nav a:hover { color: var(--ink); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; border-radius: 4px; }
nav + main section:first-child { border-top: 0; }

.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem;
  margin: 0 0 2rem;
}
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.25rem;
}
.card dt { color: var(--quiet); font-size: .875rem; }
.card dd { margin: 0; }
.card .figure {
  font-size: 2.1rem; line-height: 1.25; font-weight: 620; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums;
}
.card .figure small { font-size: 1rem; font-weight: 400; color: var(--quiet); margin-left: .15rem; }
.card .change { font-size: .875rem; color: var(--quiet); }
.up { color: var(--good); } .down { color: var(--bad); }

.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
.charts.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14.5rem), 1fr)); }
.chart {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.1rem 1.25rem; margin: 0;
}
.chart svg { display: block; width: 100%; height: auto; max-width: 34rem; font-family: inherit; }
.chart.wide { overflow-x: auto; }
.chart.wide svg { max-width: 46rem; min-width: 34rem; }
.charts.small svg { max-width: 24rem; }
.chart h3 { margin-bottom: .4rem; }

.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; background: var(--card); }
table {
  border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums;
}
caption {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}
th, td {
  padding: .5rem .85rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line);
}
thead th { color: var(--quiet); font-weight: 500; font-size: .84rem; }
thead tr:first-child th[scope=colgroup] { color: var(--ink); font-weight: 600; text-align: center; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 450; text-align: left; position: sticky; left: 0; background: var(--card); }
thead th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
th.group, td.group { border-left: 1px solid var(--line); }
table.list td { text-align: left; }
table.list th { text-align: left; }
table.list td.number, table.list th.number { text-align: right; }
.beside th.number, .beside td.number { text-align: right; }
td small { color: var(--quiet); font-size: .8rem; }
td.best { font-weight: 680; }
td.best small { font-weight: 400; }
tr.total > * { background: color-mix(in srgb, var(--accent-soft) 55%, var(--card)); }
code { font: .85em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--quiet); }
.swatch {
  display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .5rem;
  vertical-align: -.02rem; flex: none;
}

.beside {
  display: grid; grid-template-columns: minmax(0, 2fr) minmax(15rem, 1fr); gap: 1rem; align-items: start;
}
.chart + .scroll { margin-top: 1.2rem; }
.beside .chart + .scroll { margin-top: 0; }
td.wrap { white-space: normal; min-width: 16rem; }
.scroll + .case { margin-top: 2rem; }
.legend + .legend { margin-top: .3rem; }
.case + .case { margin-top: 2rem; }
.panels {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(46%, 20rem), 1fr));
  gap: .8rem;
}
.panels.four { grid-template-columns: repeat(4, 1fr); }
figure { margin: 0; min-width: 0; }
.picture { position: relative; background: #000; border-radius: 8px; overflow: hidden; }
.picture svg { display: block; width: 100%; height: auto; }
.picture span {
  position: absolute; font-size: .78rem; line-height: 1; color: #fff;
  text-shadow: 0 0 3px #000, 0 0 3px #000;
}
.side { top: 50%; opacity: .7; } .left { left: .5rem; } .right { right: .5rem; }
.corner {
  right: .45rem; bottom: .45rem; padding: .3rem .45rem; border-radius: 5px; background: rgb(0 0 0 / .62);
  font-variant-numeric: tabular-nums;
}
figure:hover .labels, figure:focus .labels { opacity: 0; }
.labels { transition: opacity .15s; }
figcaption { color: var(--quiet); font-size: .875rem; margin-top: .35rem; }
.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; padding: 0;
  margin: .9rem 0 0; font-size: .875rem; color: var(--quiet);
}
.legend li { display: flex; align-items: center; }

.graph { display: block; width: 100%; height: auto; padding: 1rem; }
.kinds { margin: 0 0 .9rem; }
.graph .node rect { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.graph .annotation rect { stroke: var(--annotation); }
.graph .fusion rect { stroke: var(--fusion); }
.graph .prediction rect { stroke: var(--prediction); }
.graph text { fill: var(--ink); font-size: 14px; font-weight: 600; }
.graph .what { fill: var(--quiet); font-size: 12px; font-weight: 400; }
.graph .edge { fill: none; stroke: var(--quiet); stroke-width: 1.3; opacity: .75; }
.graph .learned { stroke-dasharray: 4 4; }
.graph marker path { fill: var(--quiet); }
.scroll + .scroll, .scroll + .lead, .scroll + h3, .charts + .scroll, .cards + .charts { margin-top: 1.2rem; }
footer { color: var(--quiet); font-size: .875rem; padding-top: 1.5rem; padding-bottom: 3rem; }

@media (max-width: 640px) {
  header { padding: 2rem 0 1rem; }
  main, header > div, nav ul, footer { padding-left: 1rem; padding-right: 1rem; }
  h1 { font-size: 1.6rem; }
  .case h3 small { display: block; margin: .1rem 0 0; }
  section { padding: 1.7rem 0; }
  .cards { grid-template-columns: 1fr 1fr; gap: .7rem; }
  .beside { grid-template-columns: minmax(0, 1fr); }
  .panels.four { grid-template-columns: repeat(2, 1fr); }
  table.list tbody th { white-space: normal; min-width: 9rem; }
  .card { padding: .85rem .95rem; }
  .card .figure { font-size: 1.6rem; }
  th, td { padding: .45rem .6rem; }
}
@media print { nav { display: none; } .scroll { overflow: visible; } section { break-inside: avoid-page; } }
"""
