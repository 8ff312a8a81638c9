"""The PostgreSQL log: `engine.PostgresLog`, set by `options.Options`."""
