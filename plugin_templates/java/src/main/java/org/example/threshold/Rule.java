package org.example.threshold;

import com.fasterxml.jackson.databind.JsonNode;
import org.example.plugin.Environment;
import org.example.plugin.Notification;
import org.example.plugin.Unusable;

/**
 * When a value counts as crossing its limit.
 *
 * <p>notification: the name it looks at, "" for any. field: where in the parameters the number is, with dots for what is
 * inside. above: whether more than the limit is too much, or less. hysteresis: how far the value must come back from the
 * limit before a new crossing counts.
 */
record Rule(String notification, String field, boolean above, double limit, double hysteresis) {
    enum Verdict {
        CROSSED,
        BACK,
        NOTHING
    }

    /** RULE_NOTIFICATION, RULE_FIELD, RULE_ABOVE or RULE_BELOW, RULE_HYSTERESIS. Throws Unusable. */
    static Rule of(Environment environment) {
        String above = environment.get("RULE_ABOVE");
        String below = environment.get("RULE_BELOW");
        if (above.isEmpty() == below.isEmpty()) {
            throw new Unusable("either RULE_ABOVE or RULE_BELOW says which value is the limit");
        }
        double hysteresis = number("RULE_HYSTERESIS", environment.get("RULE_HYSTERESIS", "0"));
        if (hysteresis < 0) {
            throw new Unusable("RULE_HYSTERESIS is a distance: 0 or more");
        }
        return new Rule(
                environment.get("RULE_NOTIFICATION"),
                environment.get("RULE_FIELD", "value"),
                below.isEmpty(),
                below.isEmpty() ? number("RULE_ABOVE", above) : number("RULE_BELOW", below),
                hysteresis);
    }

    /** crossed: whether the device is beyond the limit as far as known. */
    Verdict judge(Notification it, boolean crossed) {
        JsonNode value = it.parameters();
        for (String name : field.split("\\.")) {
            value = value.path(name);
        }
        if (!value.isNumber() || !notification.isEmpty() && !notification.equals(it.name())) {
            return Verdict.NOTHING;
        }
        double beyond = above ? value.doubleValue() - limit : limit - value.doubleValue();
        if (!crossed && beyond > 0) {
            return Verdict.CROSSED;
        }
        return crossed && beyond <= -hysteresis ? Verdict.BACK : Verdict.NOTHING;
    }

    private static double number(String name, String text) {
        try {
            double value = Double.parseDouble(text);
            if (Double.isFinite(value)) {
                return value;
            }
        } catch (NumberFormatException error) {
            // Said below.
        }
        throw new Unusable(name + " must be a number, not '" + text + "'");
    }
}
