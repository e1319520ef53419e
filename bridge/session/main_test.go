package session

import (
	"testing"

	"go.uber.org/goleak"
)

// No test may leave a goroutine behind: a bridge reconnects for years.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
