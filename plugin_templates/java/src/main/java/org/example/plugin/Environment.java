package org.example.plugin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;

/** Settings by name. Each may also lie in a file that NAME_FILE names (secrets of Docker and others). */
public record Environment(Map<String, String> values) {
    /** The value of NAME, or what is in the file that NAME_FILE names. Throws Unusable. */
    public String get(String name, String otherwise) {
        String path = values.getOrDefault(name + "_FILE", "");
        if (path.isEmpty()) {
            String value = values.getOrDefault(name, "");
            return value.isEmpty() ? otherwise : value;
        }
        try {
            return Files.readString(Path.of(path)).strip();
        } catch (IOException error) {
            throw new Unusable(name + "_FILE can't be read: " + error);
        }
    }

    public String get(String name) {
        return get(name, "");
    }

    public int number(String name, int otherwise) {
        String text = get(name, String.valueOf(otherwise));
        if (!text.matches("[1-9][0-9]{0,8}")) {
            throw new Unusable(name + " must be a whole number of at least 1, not '" + text + "'");
        }
        return Integer.parseInt(text);
    }
}
