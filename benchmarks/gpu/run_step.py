"""One step of the GPU suite, in a process of its own: ``python run_step.py MODULE MODEL SCALE FOLDER RECORD``.

A step that crashes, hangs or loses the GPU takes nothing else with it.  Exceptions are not caught here:
the suite reads the last line of what this process says.
"""

from __future__ import annotations

import sys
from pathlib import Path

# the steps import isa_deploy, scripts of benchmarks/, and the scenes and scores of models/streets
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models" / "streets"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.scale import SCALES
from gpu.steps import load_step

OURS = ("gpu", "isa_deploy", "recipe", "streetscenes", "machine", "random_checkpoint")


def main(module: str, model: str, scale: str, folder: str, record: str) -> None:
    """Run the step, and record how it ended where it did not fail."""
    context = StepContext(Path(folder), SCALES[scale], model, Path(record))
    try:
        load_step(module).run(context)
    except NotRunError as error:
        context.refuse(str(error))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS:
            raise
        context.refuse(f"needs the package {error.name}, which is not installed here")
    else:
        context.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
