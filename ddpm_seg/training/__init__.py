"""Training of networks, ensembles and students, and of the baselines that they are compared with."""
