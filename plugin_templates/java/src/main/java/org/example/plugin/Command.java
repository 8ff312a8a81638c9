package org.example.plugin;

import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;

/** For a device, or (`isUpdate`) what a device answered it: status and result. lifetime: seconds. */
public record Command(
        long id,
        String name,
        String deviceId,
        Long networkId,
        Long deviceTypeId,
        Long userId,
        Instant timestamp,
        Instant lastUpdated,
        JsonNode parameters,
        Integer lifetime,
        String status,
        JsonNode result,
        boolean isUpdate)
        implements Message {}
