package org.example.threshold;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.net.http.HttpClient;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.example.plugin.Environment;
import org.example.plugin.Message;
import org.example.plugin.Notification;
import org.example.plugin.Rest;
import org.example.plugin.ScriptedRest;
import org.example.plugin.Settings;
import org.example.plugin.Temporary;
import org.example.plugin.Unusable;
import org.example.plugin.User;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The useful part: crossings, commands, what is remembered. */
class ThresholdTest {
    private static final String COMMANDS = "/device/a b/command";

    @TempDir
    Path folder;

    private ScriptedRest rest;
    private long id;

    @BeforeEach
    void start() throws Exception {
        rest = new ScriptedRest();
        rest.answers.put(COMMANDS, new ScriptedRest.Answer(201, Map.of("id", 5)));
    }

    @AfterEach
    void end() {
        rest.close();
    }

    private Threshold threshold(Rule rule) {
        Environment environment = new Environment(Map.of("SKEP_LOGIN", "l", "SKEP_PASSWORD", "p"));
        User user = new User(
                new Rest(HttpClient.newHttpClient(), rest.url), Settings.of(environment, "threshold", "notifications"));
        Crossed crossed = new Crossed(folder.resolve("crossed.json"));
        return new Threshold(rule, "alarm", crossed, user, Duration.ofMillis(1));
    }

    private Notification value(Object value) {
        var parameters = Message.JSON.valueToTree(Map.of("inside", Map.of("celsius", value)));
        return new Notification(++id, "temperature", "a b", 1L, 1L, Instant.EPOCH, parameters);
    }

    private long commands() {
        return rest.paths().stream().filter(COMMANDS::equals).count();
    }

    private static Rule above30() {
        return new Rule("temperature", "inside.celsius", true, 30, 1);
    }

    @Test
    void oneCommandForEachCrossing() throws Exception {
        Threshold threshold = threshold(above30());
        for (double value : new double[] {29, 30, 30.1, 35, 29.5, 31}) {
            threshold.onNotification(value(value));
        }
        assertEquals(1, commands());
        threshold.onNotification(value(29));
        threshold.onNotification(value(31));
        assertEquals(2, commands());
        ScriptedRest.Asked asked = rest.requests.get(1);
        assertEquals("alarm-3", asked.key());
        assertEquals("Bearer user-1", asked.authorization());
        assertEquals("alarm", asked.body().path("command").asText());
        assertEquals(30, asked.body().path("parameters").path("limit").asDouble());
        assertEquals(30.1, asked.body().at("/parameters/parameters/inside/celsius").asDouble());
    }

    @Test
    void belowIsTheOtherWayRound() throws Exception {
        Threshold threshold = threshold(new Rule("", "inside.celsius", false, 5, 1));
        for (double value : new double[] {5, 4.9, 4, 5.5, 3, 6, 4}) {
            threshold.onNotification(value(value));
        }
        assertEquals(2, commands());
    }

    @Test
    void otherNamesAndWhatIsNoNumberAreNothing() throws Exception {
        Threshold threshold = threshold(above30());
        threshold.onNotification(value("31"));
        threshold.onNotification(value(true));
        threshold.onNotification(value(Map.of("x", 31)));
        threshold.onNotification(new Notification(
                9, "humidity", "a b", 1L, 1L, Instant.EPOCH, value(31).parameters()));
        assertEquals(List.of(), rest.paths());
    }

    @Test
    void aRestartDoesNotRaiseItAgain() throws Exception {
        threshold(above30()).onNotification(value(31));
        Threshold again = threshold(above30());
        again.onNotification(value(32));
        again.onNotification(value(20));
        assertEquals(1, commands());
        threshold(above30()).onNotification(value(32));
        assertEquals(2, commands());
    }

    @Test
    void whatCannotBeSentNowComesAgainWithTheSameKey() throws Exception {
        rest.answers.put(COMMANDS, new ScriptedRest.Answer(503, Map.of()));
        Threshold threshold = threshold(above30());
        Notification crossing = value(31);
        assertThrows(Temporary.class, () -> threshold.onNotification(crossing));
        assertEquals(5, commands());
        rest.answers.put(COMMANDS, new ScriptedRest.Answer(201, Map.of("id", 5)));
        threshold.onNotification(crossing);
        assertEquals(
                List.of("alarm-1"),
                rest.requests.stream().filter(it -> it.path().equals(COMMANDS)).map(ScriptedRest.Asked::key).distinct().toList());
    }

    @Test
    void anExpiredTokenIsRenewedAndARefusalIsNotRepeated() throws Exception {
        rest.answers.put(COMMANDS, new ScriptedRest.Answer(401, Map.of()));
        threshold(above30()).onNotification(value(31));
        assertEquals(List.of("/token", COMMANDS, "/token", COMMANDS), rest.paths());
        assertEquals("Bearer user-3", rest.requests.get(3).authorization());
    }

    @ParameterizedTest
    @CsvSource({"'', ''", "30, 20", "warm, ''", "NaN, ''"})
    void badRulesAreNamed(String above, String below) {
        Map<String, String> values = new HashMap<>(Map.of("RULE_ABOVE", above, "RULE_BELOW", below));
        assertThrows(Unusable.class, () -> Rule.of(new Environment(values)));
    }

    @Test
    void aRuleOfTheEnvironment() {
        Map<String, String> values =
                Map.of("RULE_NOTIFICATION", "n", "RULE_FIELD", "f", "RULE_BELOW", "-1.5", "RULE_HYSTERESIS", "0.5");
        assertEquals(new Rule("n", "f", false, -1.5, 0.5), Rule.of(new Environment(values)));
    }
}
