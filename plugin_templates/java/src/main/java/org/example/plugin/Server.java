package org.example.plugin;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.OutputStream;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Instant;
import java.util.Base64;
import java.util.Map;
import java.util.Set;
import java.util.logging.Logger;
import java.util.stream.Collectors;

/**
 * Registers once, then gets access tokens.
 *
 * <p>What registering gave (topic, refresh token, endpoint) is kept in a file that only its owner may read, so that the
 * next start finds the same plugin and what waits for it.
 */
final class Server {
    private static final Logger log = Logger.getLogger("plugin");
    private static final FileAttribute<Set<PosixFilePermission>> OWNER_ONLY =
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rw-------"));

    private final Settings settings;
    private final Rest rest;
    private final Stop stop;

    Server(Settings settings, Rest rest, Stop stop) {
        this.settings = settings;
        this.rest = rest;
        this.stop = stop;
    }

    record Token(String text, Instant expires) {}

    /** From the environment, from the state file, or by registering. Throws Unusable, Temporary. */
    Credentials credentials() {
        if (!settings.topic().isEmpty()) {
            if (settings.refreshToken().isEmpty() || settings.endpoint().isEmpty()) {
                throw new Unusable("PLUGIN_TOPIC needs PLUGIN_REFRESH_TOKEN and PLUGIN_ENDPOINT beside it");
            }
            return new Credentials(settings.topic(), settings.refreshToken(), settings.endpoint(), Map.of());
        }
        if (Files.exists(settings.state())) {
            Credentials found = load();
            if (!found.query().equals(settings.query())) {
                throw new Unusable("the filter in the environment is not the one that " + settings.state()
                        + " was registered with; delete the file (and the plugin on the server) to register anew");
            }
            return found;
        }
        save(null); // Better to learn now that the file can't be written than with a plugin registered.
        JsonNode answer = register();
        Credentials found = new Credentials(
                answer.required("topicName").asText(),
                answer.required("refreshToken").asText(),
                answer.required("proxyEndpoint").asText(),
                settings.query());
        save(found);
        log.info("registered as " + found.topic() + "; its refresh token is in " + settings.state());
        return found;
    }

    /** A fresh one. Throws Unusable, Temporary. */
    Token accessToken(Credentials credentials) {
        String text;
        try {
            Map<String, String> body = Map.of("refreshToken", credentials.refreshToken());
            text = rest.ask("/token/refresh", body, "", stop).path("accessToken").asText();
        } catch (Unusable error) {
            String hint = " (without " + settings.state() + " the plugin would register anew)";
            throw new Unusable(error.getMessage() + hint);
        }
        try {
            JsonNode claims = Message.JSON.readTree(Base64.getUrlDecoder().decode(text.split("\\.")[1]));
            return new Token(text, Instant.ofEpochMilli(claims.required("payload").required("e").longValue()));
        } catch (IOException | IllegalArgumentException | ArrayIndexOutOfBoundsException error) {
            throw new Unusable("/token/refresh gives no token: " + error);
        }
    }

    private JsonNode register() {
        String query = settings.query().entrySet().stream()
                .map(entry -> entry.getKey() + "=" + URLEncoder.encode(entry.getValue(), StandardCharsets.UTF_8))
                .collect(Collectors.joining("&"));
        String token = new User(rest, settings, stop).token("");
        return rest.ask("/plugin?" + query, Map.of("name", settings.name()), token, stop);
    }

    private Credentials load() {
        try {
            Credentials found = Message.JSON.readValue(settings.state().toFile(), Credentials.class);
            if (found.topic() == null || found.refreshToken() == null || found.query() == null) {
                throw new IOException("something is missing in it");
            }
            return found;
        } catch (IOException error) {
            throw new Unusable(settings.state() + " can't be read: " + error.getMessage());
        }
    }

    /** All or nothing. null: only try whether it would work. */
    private void save(Credentials credentials) {
        Path fresh = settings.state().resolveSibling(settings.state().getFileName() + ".new");
        try {
            Files.deleteIfExists(fresh);
            Files.createFile(fresh, OWNER_ONLY);
            if (credentials == null) {
                Files.delete(fresh);
                return;
            }
            try (OutputStream file = Files.newOutputStream(fresh)) {
                file.write(Message.JSON.writeValueAsBytes(credentials));
            }
            Files.move(fresh, settings.state(), StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException error) {
            throw new Unusable(settings.state() + " can't be written: " + error);
        }
    }
}
