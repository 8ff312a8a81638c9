package org.example.plugin;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;

/** From a device. (deviceId, id) names it for good: a message that comes a second time has the same. */
public record Notification(
        long id,
        String name,
        String deviceId,
        Long networkId,
        Long deviceTypeId,
        Instant timestamp,
        JsonNode parameters)
        implements Message {}
