"""What a figure was measured on: the record that isa-bench writes too."""

from isa_deploy.bench.environment import machine

__all__ = ["machine"]
