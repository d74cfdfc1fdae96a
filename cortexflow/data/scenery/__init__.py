"""Procedural scenes with objects of many categories: what is in them is known, and any resolution shows the same scene."""
