"""The commands that measure the project; each writes its table and figures into `results/`."""
