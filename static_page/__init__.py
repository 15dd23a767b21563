"""The page without a server: plain files that any static host serves; made by `deploy.py`."""
