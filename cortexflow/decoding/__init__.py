"""Responses to images: one model a file."""
