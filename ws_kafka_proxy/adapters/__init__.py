"""Bus engines behind the port `core/engine.py`."""
