"""The search for better settings: the space, the storage, the workers, a trial and the results."""

SAMPLERS = ("grid", "random", "tpe")
PRUNERS = ("median", "hyperband", "none")
