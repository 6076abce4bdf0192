"""Publishes and receives with paho-mqtt at every QoS: roundtrip.py URL VERSION CA_FILE."""

import queue
import sys
from urllib.parse import urlparse

import paho.mqtt.client as mqtt

url, version, ca_file = urlparse(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
over_websocket, encrypted = url.scheme in ("ws", "wss"), url.scheme in ("mqtts", "wss")
got, ready = queue.Queue(), queue.Queue()
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=f"python-{url.scheme}-{version}",
    protocol=mqtt.MQTTv5 if version == 5 else mqtt.MQTTv311,
    transport="websockets" if over_websocket else "tcp",
)
if over_websocket:
    client.ws_set_options(path="/mqtt")
if encrypted:
    client.tls_set(ca_certs=ca_file)
client.on_message = lambda c, u, message: got.put((message.topic, message.payload, message.qos))
client.on_subscribe = lambda c, u, mid, codes, properties: ready.put(codes)
client.connect(url.hostname, url.port)
client.loop_start()
topic = f"python/{url.scheme}/{version}"
client.subscribe(f"{topic}/#", qos=2)
ready.get(timeout=10)
for qos in (0, 1, 2):
    client.publish(f"{topic}/{qos}", f"payload {qos}" * 1000, qos=qos).wait_for_publish(10)
for qos in (0, 1, 2):
    assert got.get(timeout=10) == (f"{topic}/{qos}", f"payload {qos}".encode() * 1000, qos)
client.disconnect()
client.loop_stop()
