import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.net.URI;
import java.util.Arrays;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.json.JSONArray;
import org.json.JSONObject;

/** The Java client against a gateway within a program: `Client URL`. A line `ok WHAT` for each thing that held. */
public final class Client {
    private static final int DEADLINE_SECS = 20;
    private static final byte[] BYTES = {0, 1, (byte) 255};

    /** What came from one socket, in order. */
    private final BlockingQueue<Object[]> came = new LinkedBlockingQueue<>();
    private final Socket socket;
    private final String name;

    private Client(String url, String name, String... transports) {
        this.name = name;
        IO.Options options = IO.Options.builder().setForceNew(true).setReconnection(false).setTransports(transports).build();
        socket = IO.socket(URI.create(url), options);
        socket.on("echo", came::add);
    }

    public static void main(String[] arguments) throws Exception {
        String url = arguments[0];
        new Client(url, "websocket", "websocket").talk();
        new Client(url, "polling", "polling").talk();
        new Client(url, "upgrade", "polling", "websocket").talk();
        isRefused(url + "/deny");
        System.exit(0);
    }

    private void talk() throws Exception {
        await("connected", Socket.EVENT_CONNECT, () -> socket.connect());
        JSONObject value = new JSONObject().put("text", "€✈\"\\").put("list", new JSONArray(Arrays.asList(1, true, "x"))).put("bytes", BYTES);
        JSONObject answer = (JSONObject) ask("echo", value)[0];
        check("an answer with bytes", Arrays.equals((byte[]) answer.get("bytes"), BYTES) && answer.getString("text").equals("€✈\"\\"));
        socket.emit("echo", "x", BYTES);
        Object[] event = next();
        check("an event with bytes", event[0].equals("x") && Arrays.equals((byte[]) event[1], BYTES));
        socket.on("question", asked -> ((Ack) asked[asked.length - 1]).call("answer to " + asked[0], BYTES));
        Object[] answered = await("answered", "answered", () -> socket.emit("ask", "who?"));
        check("a question of the server's", answered[0].equals("answer to who?") && Arrays.equals((byte[]) answered[1], BYTES));
        for (int number = 0; number < 100; number++) {
            socket.emit("echo", number);
        }
        boolean isInOrder = true;
        for (int number = 0; number < 100; number++) {
            isInOrder &= next()[0].equals(number);
        }
        check("the order", isInOrder);
        Object[] reason = await("ended by the server", Socket.EVENT_DISCONNECT, () -> socket.emit("bye all"));
        check("an end that the server wants", reason[0].equals("io server disconnect"));
    }

    private static void isRefused(String url) throws Exception {
        Client client = new Client(url, "a refusal", "websocket");
        Object[] error = client.await("refused", Socket.EVENT_CONNECT_ERROR, () -> client.socket.connect());
        JSONObject why = (JSONObject) error[0];
        client.check("its data", why.getString("message").equals("not authorized") && why.getJSONObject("data").getInt("code") == 42);
        client.socket.disconnect();
    }

    private Object[] next() throws InterruptedException {
        Object[] item = came.poll(DEADLINE_SECS, TimeUnit.SECONDS);
        check("something came", item != null);
        return item;
    }

    private Object[] ask(String event, Object value) throws InterruptedException {
        BlockingQueue<Object[]> answers = new LinkedBlockingQueue<>();
        socket.emit(event, new Object[] {value}, answers::add);
        Object[] answer = answers.poll(DEADLINE_SECS, TimeUnit.SECONDS);
        check("an answer", answer != null);
        return answer;
    }

    private Object[] await(String what, String event, Runnable cause) throws InterruptedException {
        BlockingQueue<Object[]> events = new LinkedBlockingQueue<>();
        socket.once(event, events::add);
        cause.run();
        Object[] came = events.poll(DEADLINE_SECS, TimeUnit.SECONDS);
        check(what, came != null);
        return came;
    }

    private void check(String what, boolean holds) {
        if (!holds) {
            System.err.println(name + ": " + what + ": no");
            System.exit(1);
        }
        System.out.println("ok " + name + ": " + what);
    }
}
