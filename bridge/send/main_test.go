package send_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test may leave a goroutine behind: a bridge reloads for years.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.Cleanup(allSendDriven)) }
