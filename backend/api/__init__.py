"""Inbound edge: subscriptions of the bus -> core -> store and bus."""
