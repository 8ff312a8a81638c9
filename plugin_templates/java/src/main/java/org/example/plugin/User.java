package org.example.plugin;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.Map;

/** The plugin's owner, for what a plugin's own token does not allow: to register it, to send commands. */
public final class User {
    private final Rest rest;
    private final Map<String, String> login;
    private final Stop stop;
    private String accessToken = "";

    public User(Rest rest, Settings settings) {
        this(rest, settings, new Stop());
    }

    User(Rest rest, Settings settings, Stop stop) {
        this.rest = rest;
        this.stop = stop;
        this.login = Map.of("login", settings.login(), "password", settings.password());
    }

    /** POST in the user's name, with a new token where the old one has expired. Throws Unusable, Temporary. */
    public Rest.Answer post(String path, Object body, Map<String, String> headers) {
        String token = token("");
        Rest.Answer answer = stop.unless(rest.post(path, body, token, headers), path);
        if (answer.status() == 401) {
            answer = stop.unless(rest.post(path, body, token(token), headers), path);
        }
        return answer;
    }

    /** refused: the one that is not to be used any more. */
    synchronized String token(String refused) {
        if (accessToken.equals(refused)) {
            if (login.containsValue("")) {
                throw new Unusable("SKEP_LOGIN and SKEP_PASSWORD of the plugin's owner are needed");
            }
            JsonNode answer = rest.ask("/token", login, "", stop);
            accessToken = answer.path("accessToken").asText();
        }
        return accessToken;
    }
}
