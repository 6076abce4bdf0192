module hookline/test-client

go 1.18

require github.com/eclipse/paho.mqtt.golang v1.4.3
