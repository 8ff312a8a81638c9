"""What a record on `requests` means: rules without I/O."""
