"""A stand-in for TensorRT and the CUDA runtime over host memory, for machines that have neither.

It offers exactly the names of ``isa_deploy.runtime.backends.tensorrt_api`` and ``cuda_api``, runs a plan's
ONNX in ONNX Runtime, and raises :class:`standin.violation.StandinViolation` where a program would read
rubbish, race or crash on a real GPU.  :mod:`standin.world` holds the state of one process.
"""
