package multicast

import (
	"testing"

	"topicast/bridge/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }
