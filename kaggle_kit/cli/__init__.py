"""The commands of `python -m kaggle_kit`, a file each."""
