"""The app: one file per tab, its texts and theme, and the served models."""
