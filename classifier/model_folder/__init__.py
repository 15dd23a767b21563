"""The model folder on disk, and the check of the Keras model in it before it is loaded."""
