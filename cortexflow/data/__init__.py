"""Who saw what, and how their cortex answered."""
