package harness

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"topicast/internal/lab/netlab"
)

func TestMosquittoIsStartedOrTheReasonIsKnown(t *testing.T) {
	if _, err := FindMosquitto(); err != nil {
		netlab.Skip(t, "mosquitto is not installed: %v", err)
	}
	h := netlab.New(t).Host("lan")
	file, address := filepath.Join(t.TempDir(), "mosquitto.conf"), "127.0.0.1:1883"
	began := time.Now()
	p, err := StartMosquitto(t.Context(), h, file, address, "nonsense true")
	if p == nil || err == nil || !strings.Contains(err.Error(), "nonsense") || time.Since(began) > Patience/2 {
		t.Errorf("a bad line: %v after %v", err, time.Since(began))
	}
	if _, err := StartMosquitto(t.Context(), h, file, address, "listener 1883 127.0.0.1", "allow_anonymous true"); err != nil {
		t.Fatal(err)
	}
	conn, err := Dial(t.Context(), h, address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Connect(conn, "id", true)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
