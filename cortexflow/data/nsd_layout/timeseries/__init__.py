"""Runs of the dataset: what was recorded before any beta."""
