package org.example.plugin;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;

/** Told once that the plugin is to end; what waits in here then ends with Stopped. */
final class Stop {
    final CompletableFuture<Void> asked = new CompletableFuture<>();

    void ask() {
        asked.complete(null);
    }

    boolean isAsked() {
        return asked.isDone();
    }

    /** What the future gives. Throws Stopped, Temporary with `what` for what fails for other reasons. */
    <T> T unless(CompletableFuture<T> future, String what) {
        try {
            CompletableFuture.anyOf(future, asked).join();
            if (!future.isDone()) {
                future.cancel(true);
                throw new Stopped();
            }
            return future.join();
        } catch (CompletionException error) {
            Throwable cause = error.getCause();
            if (cause instanceof Temporary || cause instanceof Unusable || cause instanceof Stopped) {
                throw (RuntimeException) cause;
            }
            throw new Temporary(what + ": " + cause);
        }
    }

    void pause(Duration duration) {
        CompletableFuture<Void> over = new CompletableFuture<>();
        unless(over.completeOnTimeout(null, duration.toMillis(), TimeUnit.MILLISECONDS), "pause");
    }
}
