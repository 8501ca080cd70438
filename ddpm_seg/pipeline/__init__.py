"""Ray Data stages of the jobs; with cluster/ the one package that imports ray."""
