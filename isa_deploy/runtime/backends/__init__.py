"""The engines behind one small protocol."""
