"""Data, architectures, training, the model folder, the Hub and prediction."""
