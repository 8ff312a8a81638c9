package org.example.plugin;

import static org.example.plugin.Bodies.command;
import static org.example.plugin.Bodies.notification;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.net.http.HttpClient;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The connection part, against a scripted server. */
class PluginTest {
    @TempDir
    Path folder;

    private final HttpClient http = HttpClient.newHttpClient();
    private final List<Plugin> plugins = new ArrayList<>();
    private final List<CompletableFuture<Void>> runs = new ArrayList<>();
    private final Map<String, String> environment = new HashMap<>();
    private ScriptedRest rest;
    private ScriptedBus bus;

    /** hold: device -> what its callbacks wait for. fail: how many callbacks throw first. */
    private static final class Collector implements Handler {
        record Seen(String kind, Object what) {}

        final BlockingQueue<Seen> seen = new LinkedBlockingQueue<>();
        final BlockingQueue<Long> begun = new LinkedBlockingQueue<>();
        final List<Long> began = new CopyOnWriteArrayList<>();
        final Map<String, CountDownLatch> hold = new ConcurrentHashMap<>();
        final AtomicInteger fail = new AtomicInteger();

        @Override
        public void onNotification(Notification it) throws Exception {
            take("notification", it.id(), it.deviceId(), it);
        }

        @Override
        public void onCommand(Command it) throws Exception {
            take("command", it.id(), it.deviceId(), it);
        }

        @Override
        public void onCommandUpdate(Command it) throws Exception {
            take("update", it.id(), it.deviceId(), it);
        }

        @Override
        public void onGap(Gap gap) {
            seen.add(new Seen("gap", gap));
        }

        private void take(String kind, long id, String device, Object what) throws Exception {
            boolean fails = fail.getAndUpdate(left -> Math.max(0, left - 1)) > 0;
            began.add(id);
            begun.add(id);
            if (fails) {
                throw new IOException("not today");
            }
            if (hold.containsKey(device)) {
                hold.get(device).await();
            }
            seen.add(new Seen(kind, what));
        }

        Seen next() throws InterruptedException {
            Seen found = seen.poll(30, TimeUnit.SECONDS);
            assertNotNull(found, "nothing was handed over");
            return found;
        }

        long nextId() throws InterruptedException {
            return ((Notification) next().what()).id();
        }
    }

    @BeforeEach
    void start() throws Exception {
        rest = new ScriptedRest();
        bus = new ScriptedBus(true);
        environment.put("SKEP_URL", rest.url);
        environment.put("SKEP_LOGIN", "l");
        environment.put("SKEP_PASSWORD", "p");
        environment.put("PLUGIN_STATE", folder.resolve("state.json").toString());
    }

    @AfterEach
    void end() throws Exception {
        plugins.forEach(Plugin::stop);
        bus.close();
        rest.close();
        for (CompletableFuture<Void> run : runs) {
            run.exceptionally(error -> null).get(30, TimeUnit.SECONDS);
        }
    }

    private CompletableFuture<Void> started(Collector handler) {
        rest.endpoint = bus.url;
        Settings settings = Settings.of(new Environment(environment), "plugin", "notifications");
        Plugin plugin = new Plugin(handler, settings, http, Duration.ofMillis(10));
        plugins.add(plugin);
        CompletableFuture<Void> run = new CompletableFuture<>();
        runs.add(run);
        new Thread(() -> {
                    try {
                        plugin.run();
                        run.complete(null);
                    } catch (InterruptedException | RuntimeException error) {
                        run.completeExceptionally(error);
                    }
                })
                .start();
        return run;
    }

    private void refused(CompletableFuture<Void> run, String said) {
        Throwable cause = assertThrows(ExecutionException.class, () -> run.get(30, TimeUnit.SECONDS)).getCause();
        assertTrue(cause instanceof Unusable && cause.getMessage().contains(said), cause.toString());
    }

    private static CountDownLatch gate() {
        return new CountDownLatch(1);
    }

    @Test
    void registersOnceWithItsFilterAndKeepsTheState() throws Exception {
        environment.put("PLUGIN_DEVICE_ID", "a b/ü");
        CompletableFuture<Void> run = started(new Collector());
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        assertEquals(List.of("/token", "/plugin", "/token/refresh"), rest.paths());
        ScriptedRest.Asked registered = rest.requests.get(1);
        assertEquals(
                "returnNotifications=true&returnCommands=false&returnUpdatedCommands=false&deviceId=a+b%2F%C3%BC",
                registered.query());
        assertEquals("{\"name\":\"plugin\"}", registered.body().toString());
        assertEquals("Bearer user-1", registered.authorization());
        Path state = folder.resolve("state.json");
        assertEquals("rw-------", PosixFilePermissions.toString(Files.getPosixFilePermissions(state)));
        peer.push(notification(1, "d1"), 0);
        peer.confirmed(0); // Now it is connected by all means, and takes its leave in order.
        plugins.get(0).stop();
        peer.reply(peer.expect("topic", "unsubscribe"));
        run.get(30, TimeUnit.SECONDS);
        started(new Collector());
        bus.peer().letIn();
        assertEquals(List.of("/token/refresh"), rest.paths().subList(3, rest.paths().size()));
    }

    @Test
    void takesATokenInstead() throws Exception {
        environment.put("PLUGIN_TOPIC", ScriptedRest.TOPIC);
        environment.put("PLUGIN_REFRESH_TOKEN", "given");
        environment.put("PLUGIN_ENDPOINT", bus.url);
        environment.remove("SKEP_LOGIN");
        started(new Collector());
        bus.peer().letIn();
        assertEquals(List.of("/token/refresh"), rest.paths());
        assertEquals("given", rest.requests.get(0).body().path("refreshToken").asText());
        assertFalse(Files.exists(folder.resolve("state.json")));
    }

    @ParameterizedTest
    @CsvSource({"/token, wrong password", "/plugin, nothing you may see", "/token/refresh, no more"})
    void saysWhyItIsRefused(String path, String message) {
        rest.answers.put(path, new ScriptedRest.Answer(403, Map.of("message", message)));
        refused(started(new Collector()), path + " is refused with 403: " + message);
    }

    @Test
    void anotherFilterIsNotPassedOver() throws Exception {
        environment.put("PLUGIN_NAMES", "a");
        started(new Collector());
        bus.peer().letIn();
        environment.put("PLUGIN_NAMES", "b");
        refused(started(new Collector()), "the filter in the environment is not the one");
    }

    @Test
    void aBrokenStateFileIsNotPassedOver() throws Exception {
        Files.writeString(folder.resolve("state.json"), "{}");
        refused(started(new Collector()), "can't be read");
    }

    @ParameterizedTest
    @CsvSource({
        "PLUGIN_RECEIVE, everything, PLUGIN_RECEIVE may name",
        "PLUGIN_PARALLEL, many, PLUGIN_PARALLEL must be",
        "SKEP_PASSWORD_FILE, /nowhere, SKEP_PASSWORD_FILE can't be read"
    })
    void badSettingsAreNamed(String name, String value, String said) {
        environment.put(name, value);
        Environment bad = new Environment(environment);
        Unusable error = assertThrows(Unusable.class, () -> Settings.of(bad, "plugin", "notifications"));
        assertTrue(error.getMessage().contains(said), error.getMessage());
    }

    @Test
    void typedCallbacksAndConfirmation() throws Exception {
        Collector handler = new Collector();
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        assertEquals("{\"t\":[\"plugin_topic_1\"],\"sg\":\"main\",\"ack\":true}", peer.subscription.toString());
        peer.push(notification(1L << 52, "d1"), 0);
        peer.push(command(8, false), 1);
        peer.push(command(8, true), 2);
        Instant at = Instant.parse("2018-05-25T10:00:00.123Z");
        Notification first = (Notification) handler.next().what();
        assertEquals(21.5, first.parameters().path("celsius").asDouble());
        assertEquals(new Notification(1L << 52, "temperature", "d1", 1L, null, at, first.parameters()), first);
        Collector.Seen second = handler.next();
        Command sent = (Command) second.what();
        assertEquals("command", second.kind());
        assertTrue(sent.lastUpdated() == null && sent.status() == null && !sent.isUpdate() && sent.userId() == 1);
        Collector.Seen third = handler.next();
        Command updated = (Command) third.what();
        assertEquals("update", third.kind());
        assertEquals(Instant.parse("2018-05-25T10:00:01Z"), updated.lastUpdated());
        assertTrue(updated.isUpdate() && updated.status().equals("done") && updated.result().path("ok").asInt() == 1);
        peer.confirmed(2);
    }

    @Test
    void confirmsOnlyWhatIsDoneAndKeepsEachDevicesOrder() throws Exception {
        Collector handler = new Collector();
        handler.hold.put("slow", gate());
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        List<String> devices = List.of("fast", "slow", "slow", "fast");
        for (int offset = 0; offset < devices.size(); offset++) {
            peer.push(notification(offset, devices.get(offset)), offset);
        }
        assertEquals(List.of(0L, 3L), List.of(handler.nextId(), handler.nextId()));
        peer.confirmed(0);
        // 3 is done, but 1 is not; 2 has not begun, for it is of the same device.
        assertEquals(List.of(0L, 1L, 3L), handler.began.stream().sorted().toList());
        handler.hold.get("slow").countDown();
        assertEquals(List.of(1L, 2L), List.of(handler.nextId(), handler.nextId()));
        peer.confirmed(3);
    }

    @Test
    void noMoreAtATimeThanAskedFor() throws Exception {
        environment.put("PLUGIN_PARALLEL", "2");
        Collector handler = new Collector();
        handler.hold.put("a", gate());
        handler.hold.put("b", gate());
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.push(notification(0, "a"), 0);
        peer.push(notification(1, "b"), 1);
        peer.push(notification(2, "c"), 2);
        peer.push("{\"a\": 99}", 0, 1);
        peer.confirmed(0, 1); // Everything before was received.
        assertEquals(2, List.of(handler.begun.take(), handler.begun.take()).size());
        assertEquals(2, handler.began.size());
        handler.hold.get("b").countDown();
        assertEquals(List.of(1L, 2L), List.of(handler.nextId(), handler.nextId()));
        handler.hold.get("a").countDown();
        peer.confirmed(2);
    }

    @Test
    void withoutTheExtensionItDoesAllThatItReceived() throws Exception {
        bus.close();
        bus = new ScriptedBus(false);
        environment.put("PLUGIN_GROUP", "");
        Collector handler = new Collector();
        handler.hold.put("d1", gate());
        CompletableFuture<Void> run = started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        assertEquals("{\"t\":[\"plugin_topic_1\"]}", peer.subscription.toString());
        peer.push(notification(1, "d1"), 0);
        peer.push(notification(2, "d1"), 1);
        peer.ping();
        plugins.get(0).stop();
        // Nothing but this comes from it.
        var unsubscribe = peer.expect("topic", "unsubscribe");
        peer.push(notification(3, "d1"), 2);
        peer.reply(unsubscribe);
        for (int round = 0; round < 2; round++) { // It has read the reply, and gone on.
            peer.ping();
        }
        handler.hold.get("d1").countDown();
        run.get(30, TimeUnit.SECONDS);
        assertEquals(List.of(1L, 2L, 3L), handler.began);
    }

    @Test
    void pingsAreAnsweredWithAllThatAServerSendsAheadInHand() throws Exception {
        Collector handler = new Collector();
        handler.hold.put("d1", gate());
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        for (int offset = 0; offset < 1000; offset++) {
            peer.push(notification(offset, "d1"), offset);
        }
        peer.ping();
        handler.hold.get("d1").countDown();
        peer.confirmed(999);
    }

    @Test
    void whatItCannotReadIsPassedOverAndConfirmed() throws Exception {
        Collector handler = new Collector();
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.push("{\"a\": 99}", 0);
        peer.confirmed(0);
        peer.push("{\"a\": 10, \"notification\": {}}", 1);
        peer.confirmed(1);
        peer.push(notification(1, "d1"), 2);
        assertEquals(1, handler.nextId());
    }

    @Test
    void gapsAreTold() throws Exception {
        Collector handler = new Collector();
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.socket.send("{\"t\": \"notif\", \"s\": 1, \"p\": {\"part\": 3, \"gap\": [10, 25]}, \"st\": \"x\"}");
        assertEquals(new Collector.Seen("gap", new Gap(3, 10, 25)), handler.next());
    }

    @Test
    void aFreshTokenComesBeforeTheOldOneEnds() throws Exception {
        rest.life = 5000;
        started(new Collector());
        ScriptedBus.Peer peer = bus.peer();
        String first = peer.letIn();
        var again = peer.expect("plugin", "authenticate");
        long second = ScriptedRest.expiry(again.path("p").path("token").asText());
        assertTrue(System.currentTimeMillis() < ScriptedRest.expiry(first) && ScriptedRest.expiry(first) < second);
        peer.reply(again);
        peer.push(notification(1, "d1"), 0);
        peer.confirmed(0);
    }

    @Test
    void reconnectsWhenTheConnectionIsLostOrRefused() throws Exception {
        started(new Collector());
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.cut();
        peer = bus.peer();
        peer.reply(peer.expect("health", ""), "{\"ack\": true}", 0);
        peer.reply(peer.expect("plugin", "authenticate"), "{\"m\": \"Plugin is disabled\"}", 1);
        peer = bus.peer();
        peer.letIn();
        peer.socket.close(1013);
        bus.peer().letIn();
        assertEquals(1, rest.paths().stream().filter("/plugin"::equals).count());
    }

    @Test
    void waitsForAServerThatIsAway() throws Exception {
        rest.answers.put("/token", new ScriptedRest.Answer(503, Map.of()));
        started(new Collector());
        rest.next();
        rest.next();
        rest.answers.clear();
        bus.peer().letIn();
    }

    @Test
    void aFailedCallbackEndsTheConnectionAndIsNotConfirmed() throws Exception {
        Collector handler = new Collector();
        handler.hold.put("slow", gate());
        started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.push(notification(1, "slow"), 0);
        assertEquals(1, handler.begun.take());
        handler.fail.set(1);
        peer.push(notification(2, "d1"), 1);
        peer.push(notification(3, "d1"), 2);
        assertEquals(2, handler.begun.take());
        handler.hold.get("slow").countDown();
        // What was under way is finished and confirmed; 3 is not begun.
        peer.confirmed(0);
        peer.closed.get(30, TimeUnit.SECONDS);
        peer = bus.peer();
        peer.letIn();
        peer.push(notification(2, "d1"), 1);
        peer.confirmed(1);
        assertEquals(List.of(1L, 2L, 2L), handler.began);
    }

    @Test
    void stopFinishesAndConfirmsWhatIsUnderWay() throws Exception {
        Collector handler = new Collector();
        CompletableFuture<Void> run = started(handler);
        ScriptedBus.Peer peer = bus.peer();
        peer.letIn();
        peer.push(notification(1, "d1"), 0);
        peer.confirmed(0);
        handler.hold.put("d1", gate());
        peer.push(notification(2, "d1"), 1);
        peer.push(notification(3, "d1"), 2);
        peer.push("{\"a\": 99}", 0, 1);
        peer.confirmed(0, 1); // Everything before was received.
        assertEquals(List.of(1L, 2L), handler.began);
        plugins.get(0).stop();
        handler.hold.get("d1").countDown();
        // The third, which had not begun, comes again at the next start.
        peer.confirmed(1);
        peer.reply(peer.expect("topic", "unsubscribe"));
        run.get(30, TimeUnit.SECONDS);
        assertEquals(1000, peer.closed.get(30, TimeUnit.SECONDS));
        assertEquals(List.of(1L, 2L), handler.began);
    }

    @Test
    void stopWhileItWaitsForTheServer() throws Exception {
        CompletableFuture<Void> run = started(new Collector());
        bus.peer();
        plugins.get(0).stop();
        run.get(30, TimeUnit.SECONDS);
    }
}
