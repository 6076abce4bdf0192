"""Publishes and receives with paho-mqtt at every QoS, in MQTT 3.1.1 and 5.0. Called by sessions.rs with the port."""

import queue
import sys

import paho.mqtt.client as mqtt

port = int(sys.argv[1])
for protocol in (mqtt.MQTTv311, mqtt.MQTTv5):
    got, ready = queue.Queue(), queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"paho-{protocol}", protocol=protocol)
    client.on_message = lambda c, u, message: got.put((message.topic, message.payload, message.qos))
    client.on_subscribe = lambda c, u, mid, codes, properties: ready.put(codes)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("paho/#", qos=2)
    ready.get(timeout=10)
    for qos in (0, 1, 2):
        client.publish(f"paho/{qos}", f"payload {qos}", qos=qos).wait_for_publish(10)
    for qos in (0, 1, 2):
        assert got.get(timeout=10) == (f"paho/{qos}", f"payload {qos}".encode(), qos)
    client.disconnect()
    client.loop_stop()
