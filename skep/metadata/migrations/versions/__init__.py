"""The revisions, one file each, in plain SQL: they stay as they are when `tables.py` goes on."""
