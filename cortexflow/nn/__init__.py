"""Bricks without direction, entered by their second user."""
