package org.example.plugin;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.channels.SocketChannel;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.java_websocket.WebSocket;
import org.java_websocket.WebSocketImpl;
import org.java_websocket.framing.Framedata;
import org.java_websocket.handshake.ClientHandshake;
import org.java_websocket.server.WebSocketServer;

/** The plugin's endpoint, played by the test. */
final class ScriptedBus implements AutoCloseable {
    final String url;
    private final boolean extension;
    private final BlockingQueue<Peer> peers = new LinkedBlockingQueue<>();
    private final CountDownLatch started = new CountDownLatch(1);
    private final WebSocketServer server;

    ScriptedBus(boolean extension) throws InterruptedException {
        this.extension = extension;
        server = new WebSocketServer(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 1) {
            @Override
            public void onStart() {
                started.countDown();
            }

            @Override
            public void onOpen(WebSocket socket, ClientHandshake handshake) {
                Peer peer = new Peer(socket);
                socket.setAttachment(peer);
                peers.add(peer);
            }

            @Override
            public void onMessage(WebSocket socket, String text) {
                socket.<Peer>getAttachment().frames.add(text);
            }

            @Override
            public void onWebsocketPong(WebSocket socket, Framedata frame) {
                socket.<Peer>getAttachment().pongs.add(frame);
            }

            @Override
            public void onClose(WebSocket socket, int code, String reason, boolean remote) {
                socket.<Peer>getAttachment().closed.complete(code);
            }

            @Override
            public void onError(WebSocket socket, Exception error) {
                error.printStackTrace();
            }
        };
        server.setConnectionLostTimeout(0);
        server.start();
        assertTrue(started.await(30, TimeUnit.SECONDS));
        url = "ws://127.0.0.1:" + server.getPort();
    }

    /** The plugin's next connection. */
    Peer peer() throws InterruptedException {
        Peer peer = peers.poll(30, TimeUnit.SECONDS);
        assertNotNull(peer, "the plugin did not connect");
        return peer;
    }

    @Override
    public void close() throws InterruptedException {
        server.stop();
    }

    /** One connection of the plugin, seen from the server. */
    final class Peer {
        final WebSocket socket;
        final CompletableFuture<Integer> closed = new CompletableFuture<>();
        private final BlockingQueue<Framedata> pongs = new LinkedBlockingQueue<>();
        JsonNode subscription;
        private final BlockingQueue<String> frames = new LinkedBlockingQueue<>();

        Peer(WebSocket socket) {
            this.socket = socket;
        }

        /** The connection ends without a word. The library's own way of closing at once may leave it open. */
        void cut() throws IOException {
            ((SocketChannel) ((WebSocketImpl) socket).getChannel()).shutdownOutput();
        }

        /** Returns when the plugin has read everything until now. */
        void ping() throws InterruptedException {
            socket.sendPing();
            assertNotNull(pongs.poll(30, TimeUnit.SECONDS), "no pong came");
        }

        JsonNode receive() throws Exception {
            String text = frames.poll(30, TimeUnit.SECONDS);
            assertNotNull(text, "nothing came from the plugin");
            return Message.JSON.readTree(text);
        }

        /** The next frame is that request; it is returned and not yet answered. */
        JsonNode expect(String type, String action) throws Exception {
            JsonNode frame = receive();
            assertEquals(type + " " + action, frame.path("t").asText() + " " + frame.path("a").asText());
            return frame;
        }

        void reply(JsonNode request, String payload, int failed) throws JsonProcessingException {
            ObjectNode frame = Message.JSON.createObjectNode();
            frame.set("id", request.get("id"));
            frame.set("t", request.get("t"));
            frame.put("s", failed).set("p", Message.JSON.readTree(payload));
            socket.send(frame.toString());
        }

        void reply(JsonNode request) throws JsonProcessingException {
            reply(request, "{}", 0);
        }

        /** Health, authenticate, subscribe; the token. */
        String letIn() throws Exception {
            reply(expect("health", ""), extension ? "{\"ack\": true}" : "{}", 0);
            JsonNode authenticate = expect("plugin", "authenticate");
            reply(authenticate);
            JsonNode subscribe = expect("topic", "subscribe");
            subscription = subscribe.get("p");
            reply(subscribe);
            return authenticate.get("p").get("token").asText();
        }

        void push(String body, long offset, long partition) {
            ObjectNode frame = Message.JSON.createObjectNode().put("t", "notif").put("s", 0);
            ObjectNode payload = frame.putObject("p").put("m", "{\"b\":" + body + ",\"l\":false,\"fld\":false}");
            if (extension) {
                payload.put("part", partition).put("off", offset);
            }
            socket.send(frame.toString());
        }

        void push(String body, long offset) {
            push(body, offset, 0);
        }

        /** Confirmations come until this one. */
        void confirmed(long offset, long partition) throws Exception {
            while (true) {
                for (JsonNode frame : receive()) {
                    assertEquals("ack", frame.path("t").asText(), frame.toString());
                    JsonNode place = frame.get("p");
                    if (place.get("part").asLong() == partition) {
                        assertTrue(place.get("off").asLong() <= offset, frame.toString());
                        if (place.get("off").asLong() == offset) {
                            return;
                        }
                    }
                }
            }
        }

        void confirmed(long offset) throws Exception {
            confirmed(offset, 0);
        }
    }
}
