"""Frames in, labels and pictures out: numpy, OpenCV and an engine, never torch."""
