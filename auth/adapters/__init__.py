"""What the core needs, made of threads and libraries."""
