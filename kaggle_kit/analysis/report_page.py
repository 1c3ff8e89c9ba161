"""The HTML of the report as one jinja2 template, its style sheet included: `Template(PAGE).render(…)`."""

from __future__ import annotations

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
  body { margin: 2.5rem auto; max-width: 72rem; padding: 0 1rem; color: #22262c; background: #fff;
         font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  h1 { font-size: 1.7rem; margin: 0; }
  h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
  .written { color: #6a7079; margin: .2rem 0 1.4rem; }
  .banner { border-left: 6px solid #c05621; background: #fdf1e7; padding: .8rem 1rem; margin: 1.2rem 0; }
  .banner strong { color: #9c4214; letter-spacing: .02em; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: .84rem; }
  th, td { padding: .35rem .5rem; text-align: left; white-space: nowrap; }
  thead th { border-bottom: 2px solid #c9ced6; color: #4a515b; font-weight: 600; }
  tbody td, tbody th { border-bottom: 1px solid #eceef1; font-weight: normal; }
  td.figure { text-align: right; font-variant-numeric: tabular-nums; }
  figure { margin: 1.2rem 0 2rem; }
  figure img { width: 100%; max-width: 50rem; }
  figcaption { color: #6a7079; font-size: .88rem; max-width: 50rem; }
  details { border: 1px solid #e1e4e8; border-radius: 6px; padding: .5rem .9rem; margin: .6rem 0; }
  summary { cursor: pointer; font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .84rem;
            overflow-wrap: anywhere; }
  details table { margin: .7rem 0; }
  details td { white-space: normal; overflow-wrap: anywhere; }
  .flag { background: #fbe3d0; color: #9c4214; border-radius: 4px; padding: 0 .4rem; font-size: .78rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="written">Written {{ written }}{% if commit %} from commit {{ commit }}{% endif %} ·
  {{ runs | length }} finished run(s)</p>

{% if toys %}
<div class="banner"><strong>SMOKE / PRACTICE — not a result.</strong>
  {{ toys }} of the {{ runs | length }} run(s) below used a toy scale or invented corpora. They show that the
  suite works; their scores say nothing about any model or task and must not be quoted.</div>
{% endif %}

{% for answer in answers %}
<h2>The answer: {{ answer.verdict }}</h2>
{% for sentence in answer.words %}
<p>{{ sentence }}</p>
{% endfor %}
<div class="wide">{{ answer.table | safe }}</div>
{% endfor %}

<h2>Runs</h2>
{% if runs %}
<div class="wide">{{ table | safe }}</div>
{% else %}
<p>No finished run was found. A run counts once its page has ended and written its manifest.</p>
{% endif %}

{% if runs %}
<h2>Figures</h2>
{% for caption, source in figures %}
<figure><img src="{{ source }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}

<h2>Details</h2>
{% for run in runs %}
<details>
<summary>{{ run.id }} {% for flag in run.flags %}<span class="flag">{{ flag }}</span> {% endfor %}</summary>
<table>
{% for name, value in run.facts.items() %}
  <tr><th>{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</table>
{% if run.metrics %}
<table>
  <thead><tr><th>task</th><th>metric</th><th>value</th><th>unit</th><th>split</th><th>n</th>
    <th>scorer</th></tr></thead>
{% for metric in run.metrics %}
  <tr><td>{{ metric.task }}</td><td>{{ metric.name }}</td>
    <td class="figure">{{ "%.4f" | format(metric.value) }}</td><td>{{ metric.unit }}</td>
    <td>{{ metric.split }}</td><td class="figure">{{ metric.n }}</td><td>{{ metric.scorer }}</td></tr>
{% endfor %}
</table>
{% endif %}
</details>
{% endfor %}
{% endif %}
</body>
</html>
"""
