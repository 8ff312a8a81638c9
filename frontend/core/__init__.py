"""Rules and state machines of the edge: sessions, subscriptions, interests, polls. No sockets."""
