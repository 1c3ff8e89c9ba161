"""Kaggle kernels: described, built from pages, pushed, chained over sessions and brought back.

`image` runs at the top of every kernel, before its packages are there: nothing is imported here.
"""
