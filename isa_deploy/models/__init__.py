"""The network in torch, and the reading of checkpoints into it."""
