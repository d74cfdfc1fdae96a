"""The parts of the simulated cortex: pictures, cortical sheet, drives, noise."""
