package org.example.plugin;

import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;

/** Runs the work of one device in order and that of several devices side by side, in threads. */
final class Lanes {
    interface Work {
        void run() throws Exception;
    }

    private static final Logger log = Logger.getLogger("plugin");

    /** Completes with the first work that throws; nothing is begun after that. */
    final CompletableFuture<Void> failed = new CompletableFuture<>();

    private final CompletableFuture<Void> idle = new CompletableFuture<>();
    private final ExecutorService threads;
    private final int waiting;
    private final Runnable room;
    private final Map<String, Queue<Work>> queues = new HashMap<>();
    private int held;
    private boolean open = true;
    private boolean ended;

    /** waiting: how many are held before it is full. room: called when it is not any more. */
    Lanes(int parallel, int waiting, Runnable room) {
        this.threads = Executors.newFixedThreadPool(parallel);
        this.waiting = waiting;
        this.room = room;
    }

    /** Whether there is room for more. What comes after `await` is dropped. */
    synchronized boolean put(String deviceId, Work work) {
        if (ended) {
            return true;
        }
        held++;
        Queue<Work> queue = queues.get(deviceId);
        if (queue != null) {
            queue.add(work);
        } else {
            queues.put(deviceId, new ArrayDeque<>());
            threads.execute(() -> run(deviceId, work));
        }
        return held < waiting;
    }

    /** Begin nothing more. */
    synchronized void close() {
        open = false;
    }

    /** Wait until all is done that is to be, or until `cut` is done and `millis` have passed since. */
    void await(CompletableFuture<Void> cut, long millis) throws InterruptedException {
        synchronized (this) {
            ended = true;
            if (held == 0) {
                idle.complete(null);
            }
        }
        CompletableFuture.anyOf(idle, cut).join();
        threads.shutdown();
        threads.awaitTermination(idle.isDone() ? Long.MAX_VALUE : millis, TimeUnit.MILLISECONDS);
        threads.shutdownNow();
    }

    private void run(String deviceId, Work first) {
        Work work = first;
        while (work != null) {
            if (isOpen()) {
                perform(work);
            }
            work = next(deviceId);
        }
    }

    private synchronized boolean isOpen() {
        return open;
    }

    private void perform(Work work) {
        try {
            work.run();
        } catch (Exception error) {
            log.log(Level.SEVERE, "a callback failed", error);
            close();
            failed.completeExceptionally(new Temporary("a callback failed: " + error));
        }
    }

    private Work next(String deviceId) {
        Work work;
        boolean wasFull;
        synchronized (this) {
            work = queues.get(deviceId).poll();
            if (work == null) {
                queues.remove(deviceId);
            }
            wasFull = held-- == waiting;
            if (ended && held == 0) {
                idle.complete(null);
            }
        }
        if (wasFull) {
            room.run();
        }
        return work;
    }
}
