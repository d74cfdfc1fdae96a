"""The Natural Scenes Dataset as its files lie on disk."""
