"""Multi-task fine-tuning of small language models on clinical tasks, with every token counted.

The package is the thin module behind the study's notebooks. Importing it loads nothing heavy:
`import kaggle_kit` takes milliseconds, and torch arrives only with `kaggle_kit.models` or
`kaggle_kit.training`.
"""

from kaggle_kit.core.noise import leave_out_noise

__version__ = "0.1.0"

leave_out_noise()
