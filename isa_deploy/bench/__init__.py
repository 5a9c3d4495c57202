"""How fast an engine is on this machine: contestants in turn, each in a process of its own, and the record of it."""
