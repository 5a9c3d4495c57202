"""``python benchmarks/gpu``: the GPU suite.  Needs nothing installed but what its steps use."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gpu.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
