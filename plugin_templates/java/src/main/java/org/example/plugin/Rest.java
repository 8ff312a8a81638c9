package org.example.plugin;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;

/** The server's REST API: POST with JSON. */
public final class Rest {
    private static final Duration ANSWER = Duration.ofSeconds(30);

    private final HttpClient http;
    private final String url;

    public Rest(HttpClient http, String url) {
        this.http = http;
        this.url = url;
    }

    /** body: null where it is no JSON. */
    public record Answer(int status, JsonNode body) {
        public boolean isSuccess() {
            return status / 100 == 2;
        }

        /** Whether the same may be answered otherwise later. */
        public boolean isTemporary() {
            return status == 408 || status == 429 || status >= 500;
        }

        public String reason() {
            String message = body == null ? "" : body.path("message").asText();
            return message.isEmpty() ? "no reason given" : message;
        }
    }

    /** Completes exceptionally where there is no answer. token: "" for none. */
    public CompletableFuture<Answer> post(String path, Object body, String token, Map<String, String> headers) {
        try {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + path))
                    .timeout(ANSWER)
                    .header("Content-Type", "application/json")
                    .POST(HttpRequest.BodyPublishers.ofByteArray(Message.JSON.writeValueAsBytes(body)));
            headers.forEach(request::header);
            if (!token.isEmpty()) {
                request.header("Authorization", "Bearer " + token);
            }
            return http.sendAsync(request.build(), HttpResponse.BodyHandlers.ofString())
                    .thenApply(answer -> new Answer(answer.statusCode(), parsed(answer.body())));
        } catch (JsonProcessingException error) {
            throw new IllegalArgumentException(error);
        } catch (IllegalArgumentException error) {
            throw new Unusable(url + " is no address: " + error.getMessage());
        }
    }

    /** The body of a success. Throws Temporary, Unusable. */
    JsonNode ask(String path, Object body, String token, Stop stop) {
        Answer answer = stop.unless(post(path, body, token, Map.of()), url);
        String what = path.split("\\?")[0];
        if (answer.isTemporary()) {
            throw new Temporary(what + " is answered with " + answer.status());
        }
        if (!answer.isSuccess() || answer.body() == null) {
            throw new Unusable(what + " is refused with " + answer.status() + ": " + answer.reason());
        }
        return answer.body();
    }

    private static JsonNode parsed(String text) {
        try {
            return Message.JSON.readTree(text);
        } catch (JsonProcessingException error) {
            return null;
        }
    }
}
