package broker

import (
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// What one broker may take. It serves a demo or a test, so the disk and the
// memory of the host stay bounded whatever is published.
const (
	maxStore  = 1 << 30  // bytes on disk, over all sessions and retained messages
	maxMemory = 64 << 20 // bytes of stores kept in memory
)

// Options says where a broker listens and what it keeps. The zero value is of
// use: a free port of 127.0.0.1, and nothing kept.
type Options struct {
	// Listen is the address and port for MQTT; "" means "127.0.0.1:0". Port 0
	// is a free one, see URL. There is no password, so keep to loopback
	// addresses where others share the network.
	Listen string

	// StoreDir keeps sessions, their waiting messages and retained messages
	// from one broker to the next. "" is a new directory among the host's
	// temporary files, removed by Close.
	StoreDir string
}

// A Broker speaks MQTT 3.1.1 (QoS 0, 1 and 2, persistent sessions, retained
// messages, wills) with payloads of up to 1 MiB. It knows no shared
// subscriptions, no MQTT 5 and no topics with blanks, and it differs from most
// brokers in two ways that a test can trip over:
//
//   - A message left unacknowledged comes again after 30 s, on the same
//     connection too, and not at the next connect as [MQTT-4.4.0-1] has it.
//   - A session may hold 63 subscriptions of QoS 1 or 2, and a filter that ends
//     in "#" counts as two: each reserves 1,024 of 65,535 packet identifiers.
type Broker struct {
	server *server.Server
	url    string
	tmpDir string // removed by Close; "" where the caller named a directory

	closing  sync.Once
	closeErr error
}

// Start returns a broker that already accepts connections. It fails where the
// address cannot be listened on, or the store cannot be written.
func Start(o Options) (_ *Broker, err error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	addr, err := net.ResolveTCPAddr("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("broker address %q: %w", o.Listen, err)
	}

	b := &Broker{}
	if o.StoreDir == "" {
		if o.StoreDir, err = os.MkdirTemp("", "topicast-broker-"); err != nil {
			return nil, fmt.Errorf("broker store: %w", err)
		}
		b.tmpDir = o.StoreDir
	}
	// From here on Close undoes what was done.
	defer func() {
		if err != nil {
			_ = b.Close()
		}
	}()

	opts := serverOptions(addr, o.StoreDir)
	if b.server, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("broker on %s: %w", o.Listen, err)
	}
	// The server reports what keeps it from starting to its logger only.
	var fault faultLog
	b.server.SetLoggerV2(&fault, false, false, false)
	b.server.Start()
	if text := fault.text(); text != "" {
		return nil, fmt.Errorf("broker on %s with its store in %s: %s", o.Listen, o.StoreDir, text)
	}
	addr.Port = opts.MQTT.Port // the server put the port it got in here
	b.url = "mqtt://" + addr.String()
	return b, nil
}

func serverOptions(addr *net.TCPAddr, storeDir string) *server.Options {
	port := addr.Port
	if port == 0 {
		port = server.RANDOM_PORT // 0 would turn MQTT off
	}
	return &server.Options{
		ServerName: "topicast",
		DontListen: true, // no port for NATS clients: MQTT is the only way in
		NoSigs:     true, // signals are the program's business
		NoLog:      true,

		JetStream:          true, // sessions, QoS 1 and 2 and retained messages live there
		StoreDir:           storeDir,
		JetStreamMaxStore:  maxStore,
		JetStreamMaxMemory: maxMemory,

		MQTT: server.MQTTOpts{
			Host: addr.IP.String(),
			Port: port,
		},
	}
}

// URL is where clients connect: "mqtt://127.0.0.1:41883".
func (b *Broker) URL() string { return b.url }

// Close ends every connection, waits until the broker has stopped, and removes
// its store unless the caller named it. It may be called more than once.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		if b.server != nil {
			b.server.Shutdown()
			b.server.WaitForShutdown()
		}
		if b.tmpDir != "" {
			b.closeErr = os.RemoveAll(b.tmpDir)
		}
	})
	return b.closeErr
}

// A faultLog keeps the first fatal message and drops the rest of the log.
type faultLog struct {
	mu    sync.Mutex
	fault string
}

func (l *faultLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

func (l *faultLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fault == "" {
		l.fault = fmt.Sprintf(format, v...)
	}
}

func (*faultLog) Errorf(string, ...any)  {}
func (*faultLog) Warnf(string, ...any)   {}
func (*faultLog) Noticef(string, ...any) {}
func (*faultLog) Debugf(string, ...any)  {}
func (*faultLog) Tracef(string, ...any)  {}
