"""The GPU suite: what only a GPU can prove, in one command (``make gpu``)."""
