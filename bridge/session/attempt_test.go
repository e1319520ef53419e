package session

import (
	"context"
	"io"
	"net"
	"net/url"
	"runtime"
	"testing"
	"testing/synctest"
)

// bytesPerAttempt is what each connect that fails allocates.
func bytesPerAttempt(t *testing.T, open func() (net.Conn, error)) (bytes uint64) {
	synctest.Test(t, func(t *testing.T) {
		tries, before := 0, runtime.MemStats{}
		const warm, n = 5, 50
		measured := make(chan uint64, 1)
		start(t, Options{URLs: []string{"mqtt://memory"}, Subscriptions: manyFilters(100), Status: &Status{"s"}}, func(s *Session) {
			s.open = func(context.Context, *url.URL) (net.Conn, error) {
				switch tries++; tries {
				case warm:
					runtime.ReadMemStats(&before)
				case warm + n:
					var after runtime.MemStats
					runtime.ReadMemStats(&after)
					measured <- (after.TotalAlloc - before.TotalAlloc) / n
				}
				return open()
			}
		})
		bytes = <-measured
	})
	return bytes
}

// A broker may be away for weeks.
func TestAFailedConnectAllocatesLittle(t *testing.T) {
	refused := func() (net.Conn, error) { return nil, io.ErrUnexpectedEOF }
	hangsUp := func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 1024))
			_ = theirs.Close()
		}()
		return pipe{ours}, nil
	}
	refuses := func() (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Read(make([]byte, 1024))
			_, _ = theirs.Write(connack(false, 5))
			_, _ = theirs.Read(make([]byte, 1)) // until we hang up
			_ = theirs.Close()
		}()
		return pipe{ours}, nil
	}
	for _, tt := range []struct {
		name string
		open func() (net.Conn, error)
		most uint64
	}{{"nobody listens", refused, 32 << 10}, {"hangs up", hangsUp, 32 << 10}, {"refuses", refuses, 32 << 10}} {
		t.Run(tt.name, func(t *testing.T) {
			got := bytesPerAttempt(t, tt.open)
			if got > tt.most {
				t.Errorf("%d bytes, want at most %d", got, tt.most)
			}
		})
	}
}
