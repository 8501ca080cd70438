"""A run on Ray Data, from its options to the published tables: `run_options`, `work`, `job`, `execute`, `stream`.

`label/` and `generate/` say what is theirs. With cluster/ this is the one package that imports Ray.
"""
