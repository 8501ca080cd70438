"""Runs a job on Ray Data, from its options to the published tables: `run_options`, `work`, `job`, `execute`, `stream`.

`label/` and `generate/` hold what is particular to those jobs. Only this package and cluster/ import Ray.
"""
