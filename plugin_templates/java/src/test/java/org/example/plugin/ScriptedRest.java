package org.example.plugin;

import com.fasterxml.jackson.databind.JsonNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** The REST API to test against. `answers`: path -> what is answered instead of the usual. */
public final class ScriptedRest implements AutoCloseable {
    public static final String TOPIC = "plugin_topic_1";

    public record Asked(String path, String query, JsonNode body, String authorization, String key) {}

    public record Answer(int status, Object body) {}

    public final List<Asked> requests = new CopyOnWriteArrayList<>();
    public final Map<String, Answer> answers = new ConcurrentHashMap<>();
    public final String url;
    public volatile String endpoint = "";
    public volatile long life = 1_800_000;

    private final BlockingQueue<Asked> asked = new LinkedBlockingQueue<>();
    private final HttpServer server;

    public ScriptedRest() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", this::serve);
        server.start();
        url = "http://127.0.0.1:" + server.getAddress().getPort();
    }

    /** The next request; fails when none comes. */
    public Asked next() throws InterruptedException {
        Asked found = asked.poll(30, TimeUnit.SECONDS);
        if (found == null) {
            throw new AssertionError("nothing was asked");
        }
        return found;
    }

    public List<String> paths() {
        return requests.stream().map(Asked::path).toList();
    }

    @Override
    public void close() {
        server.stop(0);
    }

    private void serve(HttpExchange exchange) throws IOException {
        try (exchange) {
            Asked request = new Asked(
                    exchange.getRequestURI().getPath(),
                    exchange.getRequestURI().getRawQuery(),
                    Message.JSON.readTree(exchange.getRequestBody()),
                    exchange.getRequestHeaders().getFirst("Authorization"),
                    exchange.getRequestHeaders().getFirst("Idempotency-Key"));
            requests.add(request);
            Answer answer = answers.containsKey(request.path()) ? answers.get(request.path()) : usual(request.path());
            byte[] body = Message.JSON.writeValueAsBytes(answer.body());
            exchange.sendResponseHeaders(answer.status(), body.length);
            exchange.getResponseBody().write(body);
            asked.add(request);
        }
    }

    private Answer usual(String path) {
        return switch (path) {
            case "/token/refresh" -> new Answer(201, Map.of("accessToken", token()));
            case "/token" -> new Answer(201, Map.of("accessToken", "user-" + requests.size(), "refreshToken", "r"));
            default -> new Answer(
                    201,
                    Map.of(
                            "accessToken", token(),
                            "refreshToken", "plugin-refresh",
                            "proxyEndpoint", endpoint,
                            "topicName", TOPIC));
        };
    }

    /** Milliseconds since the epoch. */
    static long expiry(String token) throws IOException {
        return Message.JSON.readTree(Base64.getUrlDecoder().decode(token.split("\\.")[1])).path("payload").path("e").asLong();
    }

    private String token() {
        long expires = System.currentTimeMillis() + life;
        String claims = "{\"payload\":{\"e\":" + expires + ",\"t\":1,\"number\":" + requests.size() + "}}";
        return "e30." + Base64.getUrlEncoder().withoutPadding().encodeToString(claims.getBytes()) + ".sig";
    }
}
