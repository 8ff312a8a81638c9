package org.example.threshold;

import com.fasterxml.jackson.core.type.TypeReference;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Set;
import java.util.TreeSet;
import org.example.plugin.Message;
import org.example.plugin.Unusable;

/** The devices that are beyond the limit, kept in a file, so that a restart does not raise a command again. */
final class Crossed {
    private final Path path;
    private final Set<String> devices;

    /** Throws Unusable. */
    Crossed(Path path) {
        this.path = path;
        try {
            devices = Files.exists(path)
                    ? Message.JSON.readValue(path.toFile(), new TypeReference<TreeSet<String>>() {})
                    : new TreeSet<>();
        } catch (IOException error) {
            throw new Unusable(path + " can't be read: " + error.getMessage());
        }
    }

    synchronized boolean contains(String deviceId) {
        return devices.contains(deviceId);
    }

    synchronized void set(String deviceId, boolean crossed) throws IOException {
        if (crossed ? devices.add(deviceId) : devices.remove(deviceId)) {
            Path fresh = path.resolveSibling(path.getFileName() + ".new");
            Message.JSON.writeValue(fresh.toFile(), devices);
            Files.move(fresh, path, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
        }
    }
}
