package org.example.plugin;

/** What goes away by itself: the plugin pauses and tries again. */
public final class Temporary extends RuntimeException {
    private static final long serialVersionUID = 1;

    public Temporary(String message) {
        super(message);
    }
}
