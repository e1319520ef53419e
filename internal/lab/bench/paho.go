//go:build linux

package main

import (
	"net"
	"net/netip"
	"os"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// runPaho is the bridge that one writes after the documentation of
// paho.mqtt.golang: a callback that writes, or a read that publishes.
func runPaho(j job) error {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + j.Broker).SetClientID("paho")
	if j.Mode == modeReceive {
		return pahoReceive(j, o)
	}
	conns := make([]net.Conn, j.Groups)
	for i := range conns {
		fd, err := sendSocket(j.source(i), j.group(i))
		if err != nil {
			return err
		}
		if conns[i], err = fileConn(fd); err != nil {
			return err
		}
	}
	o.SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe("dev/#", j.QoS, func(_ mqtt.Client, m mqtt.Message) {
			g := 0
			if j.Groups > 1 {
				g = j.streamOf([]byte(m.Topic()))
			}
			_, _ = conns[g].Write(m.Payload()) // what is lost the device counts
		})
	})
	if t := mqtt.NewClient(o).Connect(); t.Wait() && t.Error() != nil {
		return t.Error()
	}
	select {} // until the parent ends us
}

func pahoReceive(j job, o *mqtt.ClientOptions) error {
	const buffer = 8 << 20
	fd, err := receiveSocket(j.traffic, netip.MustParseAddr(gatewayAddr), buffer)
	if err != nil {
		return err
	}
	conn, err := fileConn(fd)
	if err != nil {
		return err
	}
	c := mqtt.NewClient(o)
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		return t.Error()
	}
	buf := make([]byte, largest)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return err
		}
		c.Publish(receiveTopic, j.QoS, false, append([]byte(nil), buf[:n]...))
	}
}

// fileConn puts a socket under the runtime's poller.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close()
	return net.FileConn(f)
}
