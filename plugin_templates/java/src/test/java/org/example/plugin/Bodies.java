package org.example.plugin;

/** What the server pushes, as JSON. */
final class Bodies {
    private Bodies() {}

    static String notification(long id, String device) {
        return "{\"a\": 10, \"notification\": {" + common(id, device)
                + ", \"parameters\": {\"celsius\": 21.5}, \"notification\": \"temperature\"}}";
    }

    static String command(long id, boolean isUpdate) {
        return "{\"a\": " + (isUpdate ? 23 : 21) + ", \"command\": {" + common(id, "d1")
                + ", \"command\": \"open\", \"userId\": 1, \"lifetime\": null, \"parameters\": null"
                + (isUpdate
                        ? ", \"lastUpdated\": \"2018-05-25T10:00:01.000\", \"status\": \"done\", \"result\": {\"ok\": 1}"
                        : ", \"lastUpdated\": null, \"status\": null, \"result\": null")
                + "}}";
    }

    private static String common(long id, String device) {
        return "\"id\": " + id + ", \"deviceId\": \"" + device + "\", \"networkId\": 1, \"deviceTypeId\": null"
                + ", \"timestamp\": \"2018-05-25T10:00:00.123\"";
    }
}
