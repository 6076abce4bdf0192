// Publishes and receives with paho.mqtt.golang at every QoS: roundtrip URL VERSION CA_FILE.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func wait(what string, token mqtt.Token) {
	if !token.WaitTimeout(10 * time.Second) {
		check(fmt.Errorf("%s: no answer", what))
	}
	check(token.Error())
}

func main() {
	url, caFile := os.Args[1], os.Args[3]
	scheme := strings.SplitN(url, ":", 2)[0]
	pem, err := os.ReadFile(caFile)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	if strings.HasPrefix(scheme, "ws") {
		url += "/mqtt"
	}
	options := mqtt.NewClientOptions().AddBroker(url).SetClientID("go-" + scheme).SetProtocolVersion(4).SetAutoReconnect(false)
	options.SetTLSConfig(&tls.Config{RootCAs: roots})
	client := mqtt.NewClient(options)
	wait("connect", client.Connect())
	got := make(chan mqtt.Message, 10)
	topic := "go/" + scheme
	wait("subscribe", client.Subscribe(topic+"/#", 2, func(_ mqtt.Client, message mqtt.Message) { got <- message }))
	for qos := byte(0); qos < 3; qos++ {
		wait("publish", client.Publish(fmt.Sprintf("%s/%d", topic, qos), qos, false, strings.Repeat("payload", 1000)))
	}
	for qos := byte(0); qos < 3; qos++ {
		select {
		case message := <-got:
			if message.Qos() != qos || message.Topic() != fmt.Sprintf("%s/%d", topic, qos) || len(message.Payload()) != 7000 {
				check(fmt.Errorf("wrong: %s at %d", message.Topic(), message.Qos()))
			}
		case <-time.After(10 * time.Second):
			check(fmt.Errorf("no message at QoS %d", qos))
		}
	}
	client.Disconnect(250)
}
