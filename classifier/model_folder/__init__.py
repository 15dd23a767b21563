"""The model folder on disk, and the validation of its Keras model before loading."""
