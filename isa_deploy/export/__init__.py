"""Checkpoint to graph to ONNX to engine, with the proof that they agree."""
