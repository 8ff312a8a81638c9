package org.example.threshold;

import java.io.IOException;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.logging.Logger;
import org.example.plugin.Command;
import org.example.plugin.Handler;
import org.example.plugin.Notification;
import org.example.plugin.Rest;
import org.example.plugin.Temporary;
import org.example.plugin.User;

/** Sends a device a command when a value of its notifications crosses a limit: once for each crossing. */
final class Threshold implements Handler {
    private static final Logger log = Logger.getLogger("threshold");
    private static final int ATTEMPTS = 5;

    private final Rule rule;
    private final String command;
    private final Crossed crossed;
    private final User user;
    private final Duration pause;

    /** command: its name. pause: after the first failed attempt, doubled each time. */
    Threshold(Rule rule, String command, Crossed crossed, User user, Duration pause) {
        this.rule = rule;
        this.command = command;
        this.crossed = crossed;
        this.user = user;
        this.pause = pause;
    }

    @Override
    public void onNotification(Notification notification) throws IOException, InterruptedException {
        String deviceId = notification.deviceId();
        switch (rule.judge(notification, crossed.contains(deviceId))) {
            case CROSSED -> {
                raise(notification);
                crossed.set(deviceId, true);
            }
            case BACK -> {
                log.info(deviceId + " is back within the limit");
                crossed.set(deviceId, false);
            }
            case NOTHING -> {}
        }
    }

    @Override
    public void onCommandUpdate(Command update) {
        if (update.name().equals(command)) {
            log.info(update.deviceId() + " answers " + command + " " + update.id() + ": " + update.status());
        }
    }

    /** Throws Temporary where it can't be sent now: the notification then comes again. */
    private void raise(Notification cause) throws InterruptedException {
        String device = URLEncoder.encode(cause.deviceId(), StandardCharsets.UTF_8).replace("+", "%20");
        Map<String, Object> body = Map.of(
                "command", command,
                "parameters", Map.of(
                        "notificationId", cause.id(),
                        "notification", cause.name(),
                        "timestamp", cause.timestamp().toString(),
                        "limit", rule.limit(),
                        "parameters", cause.parameters()));
        // Sent twice with one key, it is one command: after a lost answer, or a crash before this was confirmed.
        Map<String, String> headers = Map.of("Idempotency-Key", command + "-" + cause.id());
        for (int attempt = 1; ; attempt++) {
            try {
                Rest.Answer answer = user.post("/device/" + device + "/command", body, headers);
                if (answer.isSuccess()) {
                    log.info(cause.deviceId() + " is beyond the limit: " + command + " "
                            + answer.body().path("id").asText());
                    return;
                }
                if (!answer.isTemporary()) {
                    // Nor would it be taken the next time.
                    log.severe("the command is refused with " + answer.status() + ": " + answer.reason());
                    return;
                }
                throw new Temporary("the command is answered with " + answer.status());
            } catch (Temporary error) {
                if (attempt == ATTEMPTS) {
                    throw error;
                }
                log.warning(error.getMessage());
                Thread.sleep(pause.toMillis() << (attempt - 1));
            }
        }
    }
}
