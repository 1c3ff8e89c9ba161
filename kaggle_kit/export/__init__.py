"""Sharing a finished run: a folder that predicts without this project, its model card, and the hub."""
