"""Speed and memory, measured on a whole suite. Never part of the test run."""
