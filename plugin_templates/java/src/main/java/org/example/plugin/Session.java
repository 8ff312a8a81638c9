package org.example.plugin;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.logging.Logger;

/**
 * One connection: requests with their replies, pushes to the handler, confirmations back.
 *
 * <p>A server that does not announce `ack` (DeviceHive) takes the pong of its ping as confirmation; where too much waits
 * to be handled, nothing more is read, and so no pong is sent.
 */
final class Session implements WebSocket.Listener {
    private static final Logger log = Logger.getLogger("plugin");
    private static final Duration ANSWER = Duration.ofSeconds(30);
    private static final Duration CLOSE = Duration.ofSeconds(5);
    /** For how long confirmations are gathered into one frame, milliseconds. */
    private static final int GATHER = 20;
    /**
     * Seconds between pings; without an answer to the last one the connection is given up. The JDK's client (17) does not
     * always notice that the other side has closed right behind a message: about once in a hundred times on busy cores.
     */
    private static final int PING = 10;
    /**
     * How many messages are held before nothing more is read, and no ping answered. A server with `ack` never lets it come
     * to that, it sends 1000 ahead.
     */
    private static final int WAITING = 2000;

    private static final int MAX_MESSAGE = 4 << 20;

    final Lanes lanes;
    /** Completes exceptionally when the connection ends. */
    final CompletableFuture<Void> ended = new CompletableFuture<>();

    private final Handler handler;
    private final ScheduledExecutorService clock;
    private final Map<String, CompletableFuture<JsonNode>> replies = new ConcurrentHashMap<>();
    private final AtomicInteger lastId = new AtomicInteger();
    private final Positions positions = new Positions();
    private final Map<Long, Long> handled = new HashMap<>();
    private final StringBuilder text = new StringBuilder();
    private WebSocket socket;
    private CompletableFuture<?> sending = CompletableFuture.completedFuture(null);
    private String topic = "";
    private boolean answered = true;
    private volatile boolean acknowledges;

    /** clock: runs what is to happen later. */
    Session(Handler handler, int parallel, ScheduledExecutorService clock) {
        this.handler = handler;
        this.clock = clock;
        this.lanes = new Lanes(parallel, WAITING, () -> socket.request(1));
    }

    /** Connect, authenticate and subscribe. Throws Stopped, Temporary. */
    void open(HttpClient http, Credentials credentials, String token, String group, Stop stop) {
        URI uri = URI.create(credentials.endpoint());
        socket = stop.unless(
                http.newWebSocketBuilder().connectTimeout(ANSWER).buildAsync(uri, this), credentials.endpoint());
        clock.schedule(this::ping, PING, TimeUnit.SECONDS);
        topic = credentials.topic();
        acknowledges = stop.unless(request("health", null, null), "health").path("ack").asBoolean();
        stop.unless(authenticate(token), "authenticate");
        ObjectNode payload = topics();
        if (!group.isEmpty()) {
            payload.put("sg", group);
        }
        if (acknowledges) {
            payload.put("ack", true);
        }
        stop.unless(request("topic", "subscribe", payload), "subscribe");
    }

    /** Whether the server wants confirmations of its own; else everything that is received is confirmed. */
    boolean acknowledges() {
        return acknowledges;
    }

    /** What has not begun comes again; not so where it counts as confirmed, there it is done as well. */
    void beginNothingMore() {
        if (acknowledges) {
            lanes.close();
        }
    }

    CompletableFuture<JsonNode> authenticate(String token) {
        return request("plugin", "authenticate", Message.JSON.createObjectNode().put("token", token));
    }

    /** Confirm what is handled. The reply comes after all confirmations were taken. */
    CompletableFuture<JsonNode> unsubscribe() {
        confirm();
        return request("topic", "unsubscribe", topics());
    }

    /** Confirm what is handled, and close. */
    void close() {
        if (socket == null) {
            return;
        }
        confirm();
        synchronized (this) {
            sending = sending.thenCompose(sent -> socket.sendClose(WebSocket.NORMAL_CLOSURE, ""));
        }
        socket.request(1); // The close frame may stand behind what was not read.
        try {
            ended.exceptionally(error -> null)
                    .completeOnTimeout(null, CLOSE.toMillis(), TimeUnit.MILLISECONDS)
                    .join();
        } finally {
            socket.abort();
            end("closed");
        }
    }

    /** The reply's payload; completes exceptionally with Temporary. */
    private CompletableFuture<JsonNode> request(String type, String action, ObjectNode payload) {
        String id = String.valueOf(lastId.incrementAndGet());
        CompletableFuture<JsonNode> reply = new CompletableFuture<>();
        replies.put(id, reply);
        ObjectNode frame = Message.JSON.createObjectNode().put("id", id).put("t", type);
        if (action != null) {
            frame.put("a", action);
        }
        if (payload != null) {
            frame.set("p", payload);
        }
        send(frame);
        String what = action == null ? type : type + " " + action;
        CompletableFuture<Object> first = CompletableFuture.anyOf(reply, ended)
                .orTimeout(ANSWER.toMillis(), TimeUnit.MILLISECONDS);
        return first.whenComplete((any, error) -> replies.remove(id)).thenApply(any -> payload(what, (JsonNode) any));
    }

    private static JsonNode payload(String what, JsonNode answer) {
        if (answer.path("s").asInt() != 0) {
            throw new Temporary(what + ": " + answer.path("p").path("m").asText("refused"));
        }
        return answer.path("p");
    }

    // -- what comes in

    @Override
    public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean last) {
        boolean room = true;
        text.append(part);
        if (text.length() > MAX_MESSAGE) {
            from.abort();
            end("a message has more than " + MAX_MESSAGE + " characters");
        } else if (last) {
            String whole = text.toString();
            text.setLength(0);
            room = received(whole);
        }
        if (room) {
            from.request(1);
        }
        return null;
    }

    /** Whether there is room for more. */
    private boolean received(String whole) {
        boolean room = true;
        try {
            JsonNode frames = Message.JSON.readTree(whole);
            for (JsonNode frame : frames.isArray() ? frames : List.of(frames)) {
                room = received(frame);
            }
        } catch (JsonProcessingException error) {
            log.warning("the server sent what is no JSON: " + error.getMessage());
        }
        return room;
    }

    private boolean received(JsonNode frame) {
        String type = frame.path("t").asText();
        if (frame.has("id")) {
            CompletableFuture<JsonNode> reply = replies.get(frame.path("id").asText());
            if (reply != null && !type.equals("ack")) {
                reply.complete(frame);
            }
        } else if (type.equals("notif")) {
            return pushed(frame.path("p"));
        } else if (frame.path("s").asInt() != 0) {
            log.warning("the server complains: " + frame.path("p").path("m").asText());
        }
        return true;
    }

    private boolean pushed(JsonNode payload) {
        JsonNode gap = payload.path("gap");
        if (gap.isArray()) {
            Gap told = new Gap(payload.path("part").longValue(), gap.path(0).longValue(), gap.path(1).longValue());
            return lanes.put("", () -> handler.onGap(told));
        }
        Positions.Place place = acknowledges
                ? positions.received(payload.path("part").longValue(), payload.path("off").longValue())
                : null;
        Message message;
        try {
            message = Message.parse(payload.path("m").asText());
        } catch (IllegalArgumentException error) {
            log.warning("passed over a message that can't be read: " + error.getMessage());
            done(place);
            return true;
        }
        return lanes.put(message.deviceId(), () -> {
            handle(message);
            done(place);
        });
    }

    private void handle(Message message) throws Exception {
        if (message instanceof Notification notification) {
            handler.onNotification(notification);
        } else if (message instanceof Command command && command.isUpdate()) {
            handler.onCommandUpdate(command);
        } else {
            handler.onCommand((Command) message);
        }
    }

    @Override
    public CompletionStage<?> onPong(WebSocket from, ByteBuffer data) {
        synchronized (this) {
            answered = true;
        }
        from.request(1);
        return null;
    }

    @Override
    public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
        end((code + " " + reason).strip());
        return null;
    }

    @Override
    public void onError(WebSocket from, Throwable error) {
        end(error.toString());
    }

    private void end(String why) {
        ended.completeExceptionally(new Temporary("the connection ended: " + why));
    }

    // -- what goes out

    private synchronized void done(Positions.Place place) {
        OptionalLong offset = place == null ? OptionalLong.empty() : positions.done(place);
        if (offset.isPresent()) {
            if (handled.isEmpty()) {
                clock.schedule(this::confirm, GATHER, TimeUnit.MILLISECONDS);
            }
            handled.put(place.partition, offset.getAsLong());
        }
    }

    private synchronized void confirm() {
        ArrayNode frames = Message.JSON.createArrayNode();
        handled.forEach((partition, offset) -> frames.addObject()
                .put("t", "ack")
                .putObject("p")
                .put("t", topic)
                .put("part", partition)
                .put("off", offset));
        handled.clear();
        if (!frames.isEmpty()) {
            send(frames);
        }
    }

    /** In the order of calls; the client takes one at a time. */
    private synchronized void send(JsonNode frame) {
        String whole = frame.toString();
        sending = sending.thenCompose(sent -> socket.sendText(whole, true));
    }

    /** End a connection whose other side is gone without a word. */
    private synchronized void ping() {
        if (ended.isDone()) {
            return;
        }
        if (!answered) {
            socket.abort();
            end("no answer to a ping");
            return;
        }
        answered = false;
        sending = sending.thenCompose(sent -> socket.sendPing(ByteBuffer.allocate(0)));
        clock.schedule(this::ping, PING, TimeUnit.SECONDS);
    }

    private ObjectNode topics() {
        ObjectNode payload = Message.JSON.createObjectNode();
        payload.putArray("t").add(topic);
        return payload;
    }
}
