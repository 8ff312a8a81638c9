"""What brokers ask: the hooks for authentication and rights."""
