import java.net.http.HttpClient;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import org.example.plugin.Command;
import org.example.plugin.Environment;
import org.example.plugin.Handler;
import org.example.plugin.Message;
import org.example.plugin.Notification;
import org.example.plugin.Plugin;
import org.example.plugin.Settings;

/**
 * An author's plugin on the Java template: one line of JSON on stdout for each callback. HOLD: the name of messages whose
 * callback never returns.
 */
final class Collect implements Handler {
    public static void main(String[] arguments) throws InterruptedException {
        Settings settings = Settings.of(new Environment(System.getenv()), "collector", "notifications");
        new Plugin(new Collect(), settings, HttpClient.newHttpClient()).runUntilSignal();
        Runtime.getRuntime().halt(0);
    }

    @Override
    public void onNotification(Notification it) throws Exception {
        collect("notification", it.deviceId(), it.name(), it.id());
    }

    @Override
    public void onCommand(Command it) throws Exception {
        collect("command", it.deviceId(), it.name(), it.id());
    }

    @Override
    public void onCommandUpdate(Command it) throws Exception {
        collect("update", it.deviceId(), it.name(), it.id());
    }

    private static void collect(String kind, String device, String name, long id) throws Exception {
        System.out.println(Message.JSON.writeValueAsString(List.of(kind, device, name, id)));
        if (name.equals(System.getenv("HOLD"))) {
            new CountDownLatch(1).await();
        }
    }
}
