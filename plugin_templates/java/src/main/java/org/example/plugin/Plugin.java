package org.example.plugin;

import java.net.http.HttpClient;
import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.logging.Logger;

/** The plugin's connection: kept up with fresh tokens, and ended in order. */
public final class Plugin {
    private static final Logger log = Logger.getLogger("plugin");
    /** Longest wait at the end for callbacks that are under way. */
    private static final Duration STOP = Duration.ofSeconds(10);
    /** Longest pause between attempts to connect; a connection that lasted so long begins with short ones again. */
    private static final Duration LONGEST_PAUSE = Duration.ofSeconds(30);

    private final Handler handler;
    private final Settings settings;
    private final HttpClient http;
    private final Server server;
    private final Duration firstPause;
    private final Stop stop = new Stop();
    private volatile Session current;
    private final ScheduledExecutorService clock = Executors.newScheduledThreadPool(2, work -> {
        Thread thread = new Thread(work, "clock");
        thread.setDaemon(true);
        return thread;
    });

    public Plugin(Handler handler, Settings settings, HttpClient http) {
        this(handler, settings, http, Duration.ofMillis(500));
    }

    Plugin(Handler handler, Settings settings, HttpClient http, Duration firstPause) {
        this.handler = handler;
        this.settings = settings;
        this.http = http;
        this.firstPause = firstPause;
        this.server = new Server(settings, new Rest(http, settings.url()), stop);
    }

    /** `run` finishes what is under way, confirms it, closes the connection and returns. */
    public void stop() {
        stop.ask();
        Session session = current;
        if (session != null) {
            session.beginNothingMore();
        }
    }

    /**
     * `run`, and `stop` at SIGTERM or SIGINT. The JVM then ends when its shutdown hooks have ended: the one made here waits
     * for the calling thread, which may `halt` with a code of its own. Throws Unusable.
     */
    public void runUntilSignal() throws InterruptedException {
        Thread caller = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stop();
            try {
                caller.join();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        run();
    }

    /** Connects, and connects again, until `stop`. Throws Unusable. */
    public void run() throws InterruptedException {
        Duration pause = firstPause;
        Credentials credentials = null;
        try {
            while (!stop.isAsked()) {
                Instant began = Instant.now();
                try {
                    if (credentials == null) {
                        credentials = server.credentials();
                    }
                    connect(credentials);
                } catch (Temporary error) {
                    if (began.plus(LONGEST_PAUSE).isBefore(Instant.now())) {
                        pause = firstPause;
                    }
                    // So that not all come back at once.
                    double part = ThreadLocalRandom.current().nextDouble(0.5, 1);
                    Duration wait = Duration.ofMillis((long) (part * pause.toMillis()));
                    pause = pause.multipliedBy(2).compareTo(LONGEST_PAUSE) < 0 ? pause.multipliedBy(2) : LONGEST_PAUSE;
                    log.warning(error.getMessage() + "; next attempt in " + wait.toMillis() + " ms");
                    stop.pause(wait);
                }
            }
        } catch (Stopped end) {
            // As asked.
        } finally {
            clock.shutdownNow();
        }
    }

    /** One connection, from the token to its end. Returns when `stop` was called; throws why it ended else. */
    private void connect(Credentials credentials) throws InterruptedException {
        Server.Token token = server.accessToken(credentials);
        Session session = new Session(handler, settings.parallel(), clock);
        CompletableFuture<Void> kept = new CompletableFuture<>();
        try {
            current = session;
            session.open(http, credentials, token.text(), settings.group(), stop);
            log.info("connected to " + credentials.endpoint() + " as " + credentials.topic());
            keepToken(session, credentials, token, kept);
            try {
                stop.unless(anyOf(session.ended, session.lanes.failed, kept), "connection");
            } catch (Stopped end) {
                leave(session);
            }
        } finally {
            kept.complete(null);
            current = null;
            // The next connection brings what is unconfirmed again: only after what is under way, or order is lost.
            finish(session);
            session.close();
        }
    }

    private static CompletableFuture<Object> anyOf(CompletableFuture<?>... futures) {
        return CompletableFuture.anyOf(futures);
    }

    private void leave(Session session) throws InterruptedException {
        if (session.acknowledges()) {
            finish(session);
        }
        new Stop().unless(session.unsubscribe(), "unsubscribe");
    }

    /** Wait for the callbacks that are under way; when stopping, not longer than STOP. */
    private void finish(Session session) throws InterruptedException {
        session.beginNothingMore();
        session.lanes.await(stop.asked, STOP.toMillis());
    }

    /** A fresh token at four fifths of the old one's life, again and again until `kept` is done. */
    private void keepToken(Session session, Credentials credentials, Server.Token token, CompletableFuture<Void> kept) {
        long life = Duration.between(Instant.now(), token.expires()).toMillis();
        Runnable renew = () -> {
            Server.Token fresh = token;
            try {
                if (kept.isDone()) {
                    return;
                }
                fresh = server.accessToken(credentials);
                session.authenticate(fresh.text()).join();
            } catch (Temporary error) {
                log.warning("no fresh token yet: " + error.getMessage());
            } catch (RuntimeException error) {
                kept.completeExceptionally(error);
                return;
            }
            keepToken(session, credentials, fresh, kept);
        };
        clock.schedule(renew, Math.max(2000, life / 5 * 4), TimeUnit.MILLISECONDS);
    }
}
