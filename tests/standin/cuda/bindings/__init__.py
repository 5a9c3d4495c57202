"""A stand-in for cuda-python."""
