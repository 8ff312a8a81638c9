"""Topics, filters and rights: rules without I/O."""
