package org.example.plugin;

/** The plugin can't run like this. The text is for the person who set it up. */
public final class Unusable extends RuntimeException {
    private static final long serialVersionUID = 1;

    public Unusable(String message) {
        super(message);
    }
}
