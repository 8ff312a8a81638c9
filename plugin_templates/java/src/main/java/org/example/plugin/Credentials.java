package org.example.plugin;

import java.util.Map;

/** What registering gave. query: the filter it was registered with; empty where others registered it. */
record Credentials(String topic, String refreshToken, String endpoint, Map<String, String> query) {}
