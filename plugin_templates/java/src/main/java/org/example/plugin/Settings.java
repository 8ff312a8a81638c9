package org.example.plugin;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * query: the filter, as it goes into the registration. group: copies of the plugin with one group share the devices, ""
 * gives each copy everything. topic, refreshToken, endpoint: of a plugin that is registered already, else "". parallel:
 * how many messages (of different devices) are handled at a time.
 */
public record Settings(
        String url,
        String login,
        String password,
        String name,
        Map<String, String> query,
        String group,
        Path state,
        String topic,
        String refreshToken,
        String endpoint,
        int parallel) {

    /** What PLUGIN_RECEIVE may name, and what it is called at registration. */
    private static final Map<String, String> RECEIVE = ordered(
            "notifications", "returnNotifications", "commands", "returnCommands", "updates", "returnUpdatedCommands");

    private static final Map<String, String> FILTER = ordered(
            "PLUGIN_DEVICE_ID", "deviceId",
            "PLUGIN_NETWORK_IDS", "networkIds",
            "PLUGIN_DEVICE_TYPE_IDS", "deviceTypeIds",
            "PLUGIN_NAMES", "names",
            "PLUGIN_RETENTION", "retention");

    /** name, receive: where PLUGIN_NAME and PLUGIN_RECEIVE say nothing. Throws Unusable. */
    public static Settings of(Environment environment, String name, String receive) {
        return new Settings(
                environment.get("SKEP_URL", "http://127.0.0.1:8080/api/rest").replaceAll("/+$", ""),
                environment.get("SKEP_LOGIN"),
                environment.get("SKEP_PASSWORD"),
                environment.get("PLUGIN_NAME", name),
                query(environment, receive),
                // Set but empty: no group, every copy of the plugin gets everything.
                environment.values().getOrDefault("PLUGIN_GROUP", "main"),
                Path.of(environment.get("PLUGIN_STATE", "plugin-state.json")),
                environment.get("PLUGIN_TOPIC"),
                environment.get("PLUGIN_REFRESH_TOKEN"),
                environment.get("PLUGIN_ENDPOINT"),
                environment.number("PLUGIN_PARALLEL", 16));
    }

    private static Map<String, String> query(Environment environment, String receive) {
        List<String> wanted = Arrays.stream(environment.get("PLUGIN_RECEIVE", receive).split(","))
                .map(String::strip)
                .toList();
        for (String kind : wanted) {
            if (!RECEIVE.containsKey(kind)) {
                throw new Unusable("PLUGIN_RECEIVE may name " + String.join(", ", RECEIVE.keySet()) + ", not " + kind);
            }
        }
        Map<String, String> query = new LinkedHashMap<>();
        RECEIVE.forEach((kind, parameter) -> query.put(parameter, String.valueOf(wanted.contains(kind))));
        FILTER.forEach((variable, parameter) -> {
            String value = environment.get(variable);
            if (!value.isEmpty()) {
                query.put(parameter, value);
            }
        });
        return query;
    }

    private static Map<String, String> ordered(String... pairs) {
        Map<String, String> map = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            map.put(pairs[i], pairs[i + 1]);
        }
        return map;
    }
}
