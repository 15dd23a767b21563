"""The page of the app: one file per tab, its words, its looks, and the models behind it."""
