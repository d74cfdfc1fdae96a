"""Generative models between pictures and the human visual cortex, in both directions.

The folder is the catalogue: ``data`` says who saw what and how their cortex answered, ``features`` what a picture is to a
model, ``encoding`` holds one model a file (pictures to responses), ``metrics`` the numbers and ``report`` the page.
"""

__version__ = "0.1.0"
