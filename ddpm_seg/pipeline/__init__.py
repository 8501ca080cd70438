"""Ray Data stages of the jobs; the one package (with Ray Train in training/) that imports ray."""
