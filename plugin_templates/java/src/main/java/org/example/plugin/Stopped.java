package org.example.plugin;

/** The plugin is to end. */
final class Stopped extends RuntimeException {
    private static final long serialVersionUID = 1;
}
