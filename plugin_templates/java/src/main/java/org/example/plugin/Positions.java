package org.example.plugin;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.Map;
import java.util.OptionalLong;

/** Which offset of each partition may be confirmed: the last before the first message that is not done. */
final class Positions {
    private final Map<Long, Deque<Place>> places = new HashMap<>();

    /** Where a message stands on its partition. */
    static final class Place {
        final long partition;
        final long offset;
        private boolean done;

        private Place(long partition, long offset) {
            this.partition = partition;
            this.offset = offset;
        }
    }

    synchronized Place received(long partition, long offset) {
        Deque<Place> queue = places.computeIfAbsent(partition, any -> new ArrayDeque<>());
        Place place = new Place(partition, offset);
        queue.add(place);
        return place;
    }

    /** The offset through which the partition is handled now; empty if that has not moved. */
    synchronized OptionalLong done(Place place) {
        place.done = true;
        Deque<Place> queue = places.get(place.partition);
        OptionalLong last = OptionalLong.empty();
        while (!queue.isEmpty() && queue.getFirst().done) {
            last = OptionalLong.of(queue.removeFirst().offset);
        }
        return last;
    }
}
