// Publishes and receives with Eclipse Paho for Java at every QoS: Roundtrip.java URL VERSION CA_FILE.

import java.io.FileInputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

public class Roundtrip {
    record Message(String topic, int length, int qos) {}

    public static void main(String[] arguments) throws Exception {
        String scheme = arguments[0].split(":")[0];
        String url = arguments[0].replaceFirst("^mqtt:", "tcp:").replaceFirst("^mqtts:", "ssl:") + (scheme.startsWith("ws") ? "/mqtt" : "");
        BlockingQueue<Message> got = new LinkedBlockingQueue<>();
        String topic = "java/" + scheme + "/" + arguments[1];
        byte[] payload = "payload".repeat(1000).getBytes();
        SSLSocketFactory sockets = trusting(arguments[2]);
        if (arguments[1].equals("5")) {
            var client = new org.eclipse.paho.mqttv5.client.MqttClient(url, "java-" + scheme + "-5", new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence());
            var options = new org.eclipse.paho.mqttv5.client.MqttConnectionOptions();
            options.setSocketFactory(scheme.endsWith("s") && !scheme.equals("ws") ? sockets : null);
            client.setTimeToWait(10000);
            client.connect(options);
            client.subscribe(new org.eclipse.paho.mqttv5.common.MqttSubscription[] {new org.eclipse.paho.mqttv5.common.MqttSubscription(topic + "/#", 2)},
                new org.eclipse.paho.mqttv5.client.IMqttMessageListener[] {(name, message) -> got.add(new Message(name, message.getPayload().length, message.getQos()))});
            for (int qos = 0; qos < 3; qos++) client.publish(topic + "/" + qos, payload, qos, false);
            check(got, topic);
            client.disconnect();
        } else {
            var client = new org.eclipse.paho.client.mqttv3.MqttClient(url, "java-" + scheme + "-4", new org.eclipse.paho.client.mqttv3.persist.MemoryPersistence());
            var options = new org.eclipse.paho.client.mqttv3.MqttConnectOptions();
            options.setSocketFactory(scheme.endsWith("s") && !scheme.equals("ws") ? sockets : null);
            client.setTimeToWait(10000);
            client.connect(options);
            client.subscribe(topic + "/#", 2, (name, message) -> got.add(new Message(name, message.getPayload().length, message.getQos())));
            for (int qos = 0; qos < 3; qos++) client.publish(topic + "/" + qos, payload, qos, false);
            check(got, topic);
            client.disconnect();
        }
        System.exit(0);
    }

    static void check(BlockingQueue<Message> got, String topic) throws Exception {
        for (int qos = 0; qos < 3; qos++) {
            Message message = got.poll(10, TimeUnit.SECONDS);
            if (!new Message(topic + "/" + qos, 7000, qos).equals(message)) throw new IllegalStateException("wrong: " + message);
        }
    }

    static SSLSocketFactory trusting(String file) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (var stream = new FileInputStream(file)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(stream));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context.getSocketFactory();
    }
}
