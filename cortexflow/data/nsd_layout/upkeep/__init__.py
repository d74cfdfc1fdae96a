"""Fetching the dataset, and looking at what is there of it."""
