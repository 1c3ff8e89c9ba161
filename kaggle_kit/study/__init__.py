"""The study as a graph: what is selected, what depends on what, what it costs, and running it.

A selection (`params/study/NAME.yaml`) names models, tasks, strategies, seeds and controls; `graph` lists
its runs; the `Snakefile` beside this file says what depends on what, and Snakemake schedules it.
"""

DEFAULT = "rq5_practice"  # the study that is run where none is named
