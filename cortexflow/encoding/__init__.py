"""Images to responses: one model a file."""
