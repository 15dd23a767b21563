"""Answers of a loaded model, how sure they are, and what they depend on."""
