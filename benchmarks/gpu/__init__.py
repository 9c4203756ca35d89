"""Measurements on a GPU in stages, each in its own process: `nox -s gpu`, or `bash benchmarks/gpu_check.sh`."""
