"""Predictions of a loaded model, their confidence, and occlusion sensitivity."""
