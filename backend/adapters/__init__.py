"""Message stores: one contract (`core/store.py`), two engines."""
