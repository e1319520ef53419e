package multicast

import (
	"testing"

	"topicast/internal/lab/netlab"
)

func TestMain(m *testing.M) { netlab.Main(m) }
