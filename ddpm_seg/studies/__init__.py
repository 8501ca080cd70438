"""Studies run the work of other jobs and compare results: evaluate, compare, reproduce, showcase, annotate."""
