import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Duration;
import java.util.Base64;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.util.ssl.SslContextFactory;
import org.eclipse.jetty.websocket.api.Callback;
import org.eclipse.jetty.websocket.api.Session;
import org.eclipse.jetty.websocket.server.WebSocketUpgradeHandler;

/**
 * Jetty: {@code Session.sendText} to each open session, without waiting for any of them.
 *
 * <pre>java Peer [CERT KEY]</pre>
 */
public final class Peer {
    private static final Set<Session> SESSIONS = ConcurrentHashMap.newKeySet();

    /** One per client; public because Jetty finds its methods by reflection. */
    public static final class Client implements Session.Listener.AutoDemanding {
        private Session session;

        @Override
        public void onWebSocketOpen(Session opened) {
            session = opened;
            opened.sendText("{\"type\":\"subscribed\"}", Callback.NOOP);
            SESSIONS.add(opened);
        }

        @Override
        public void onWebSocketClose(int code, String reason) {
            SESSIONS.remove(session);
        }

        @Override
        public void onWebSocketError(Throwable cause) {
            SESSIONS.remove(session);
        }
    }

    public static void main(String[] files) throws Exception {
        Server server = new Server();
        ServerConnector connector =
                files.length == 2 ? new ServerConnector(server, tls(files)) : new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setAcceptQueueSize(4096);
        server.addConnector(connector);
        server.setHandler(WebSocketUpgradeHandler.from(server, container -> {
            // By default Jetty closes connections that are idle for 30 seconds.
            container.setIdleTimeout(Duration.ZERO);
            container.addMapping("/*", (request, response, callback) -> new Client());
        }));
        server.start();
        try (ServerSocket feed = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            System.out.printf(
                    "{\"port\":%d,\"feed\":%d}%n", connector.getLocalPort(), feed.getLocalPort());
            while (true) {
                repeat(feed);
            }
        }
    }

    private static void repeat(ServerSocket feed) throws IOException {
        try (Socket feeder = feed.accept();
                BufferedReader lines = new BufferedReader(
                        new InputStreamReader(feeder.getInputStream(), StandardCharsets.UTF_8))) {
            for (String line; (line = lines.readLine()) != null; ) {
                for (Session session : SESSIONS) {
                    session.sendText(line, Callback.NOOP);
                }
            }
        }
    }

    private static SslContextFactory.Server tls(String[] files) throws Exception {
        Certificate certificate;
        try (var stream = Files.newInputStream(Path.of(files[0]))) {
            certificate = CertificateFactory.getInstance("X.509").generateCertificate(stream);
        }
        String pem = Files.readString(Path.of(files[1])).replaceAll("-----[A-Z ]+-----", "");
        var key = KeyFactory.getInstance("EC").generatePrivate(
                new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(pem)));
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setKeyEntry("peer", key, new char[0], new Certificate[] {certificate});
        SslContextFactory.Server factory = new SslContextFactory.Server();
        factory.setKeyStore(store);
        factory.setKeyStorePassword("");
        factory.setIncludeProtocols("TLSv1.3");
        // Clients connect to an address, which Jetty's SNI check cannot match with a certificate.
        factory.setSniRequired(false);
        return factory;
    }
}
