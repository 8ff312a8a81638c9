package org.example.threshold;

import java.net.http.HttpClient;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.logging.Logger;
import org.example.plugin.Environment;
import org.example.plugin.Plugin;
import org.example.plugin.Rest;
import org.example.plugin.Settings;
import org.example.plugin.Unusable;
import org.example.plugin.User;

/** Until SIGTERM or SIGINT. The exit code: 0 stopped, 2 it can't run with these settings. */
public final class Main {
    private static final Logger log = Logger.getLogger("plugin");

    private Main() {}

    public static void main(String[] arguments) throws InterruptedException {
        System.setProperty("java.util.logging.SimpleFormatter.format", "%1$tFT%1$tT.%1$tL %4$s %3$s: %5$s%6$s%n");
        int code = 0;
        try {
            run(System.getenv());
        } catch (Unusable error) {
            log.severe(error.getMessage());
            code = 2;
        }
        Runtime.getRuntime().halt(code);
    }

    private static void run(Map<String, String> values) throws InterruptedException {
        Environment environment = new Environment(values);
        Settings settings = Settings.of(environment, "threshold", "notifications,updates");
        if (settings.login().isEmpty() || settings.password().isEmpty()) {
            throw new Unusable("SKEP_LOGIN and SKEP_PASSWORD are needed: a plugin's own token can't send commands");
        }
        HttpClient http = HttpClient.newBuilder()
                .version(HttpClient.Version.HTTP_1_1)
                .connectTimeout(Duration.ofSeconds(10))
                .build();
        Threshold threshold = new Threshold(
                Rule.of(environment),
                environment.get("RULE_COMMAND", "alarm"),
                new Crossed(Path.of(environment.get("RULE_STATE", "threshold-state.json"))),
                new User(new Rest(http, settings.url()), settings),
                Duration.ofMillis(500));
        new Plugin(threshold, settings, http).runUntilSignal();
    }
}
