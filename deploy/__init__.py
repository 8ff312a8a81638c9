"""Runs the suite and its engines on this machine without Docker: `python -m deploy.local`, or `make run`."""
