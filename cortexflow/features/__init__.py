"""What an image is to a model; cached by name, revision and stimulus."""
