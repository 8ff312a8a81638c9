"""Rules of plugins, apart from any transport."""
