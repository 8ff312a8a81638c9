package org.example.plugin;

import java.util.logging.Logger;

/**
 * What the plugin does. Messages of one device come one after the other, those of several side by side, in threads.
 *
 * <p>A message is confirmed once its callback has returned. If the callback throws, the plugin disconnects and comes back
 * after a pause; everything that is not confirmed then comes again, so a callback must bear repetition.
 */
public interface Handler {
    /** A device sent a notification. */
    default void onNotification(Notification notification) throws Exception {}

    /** Somebody sent a device a command. */
    default void onCommand(Command command) throws Exception {}

    /** A device answered a command. */
    default void onCommandUpdate(Command command) throws Exception {}

    /** The plugin was away for longer than its messages are kept. */
    default void onGap(Gap gap) throws Exception {
        long lost = gap.next() - gap.first();
        Logger.getLogger("plugin")
                .warning(lost + " messages of partition " + gap.partition() + " are lost: away for too long");
    }
}
