package org.example.plugin;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeParseException;

/** What a plugin receives. */
public sealed interface Message permits Notification, Command {
    JsonMapper JSON = new JsonMapper();

    String deviceId();

    /** Throws IllegalArgumentException for what is no message. */
    static Message parse(String text) {
        try {
            JsonNode body = JSON.readTree(text).path("b");
            int kind = body.path("a").asInt(-1);
            return switch (kind) {
                case 10 -> notification(body.required("notification"));
                case 21, 23 -> command(body.required("command"), kind == 23);
                default -> throw new IllegalArgumentException("unknown kind " + kind);
            };
        } catch (JsonProcessingException | DateTimeParseException error) {
            throw new IllegalArgumentException(error);
        }
    }

    private static Notification notification(JsonNode it) {
        return new Notification(
                it.required("id").longValue(),
                it.path("notification").asText(),
                it.required("deviceId").textValue(),
                number(it, "networkId"),
                number(it, "deviceTypeId"),
                time(it.required("timestamp")),
                it.path("parameters"));
    }

    private static Command command(JsonNode it, boolean isUpdate) {
        return new Command(
                it.required("id").longValue(),
                it.path("command").asText(),
                it.required("deviceId").textValue(),
                number(it, "networkId"),
                number(it, "deviceTypeId"),
                number(it, "userId"),
                time(it.required("timestamp")),
                time(it.path("lastUpdated")),
                it.path("parameters"),
                it.path("lifetime").isNumber() ? it.path("lifetime").intValue() : null,
                it.path("status").textValue(),
                it.path("result"),
                isUpdate);
    }

    private static Long number(JsonNode it, String name) {
        return it.path(name).isNumber() ? it.path(name).longValue() : null;
    }

    /** The server's times are UTC and do not say so. */
    private static Instant time(JsonNode it) {
        return it.isTextual() ? LocalDateTime.parse(it.textValue()).toInstant(ZoneOffset.UTC) : null;
    }
}
