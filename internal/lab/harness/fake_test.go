package harness

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"topicast/internal/lab/netlab"
)

func TestAFailureOfTheNetworkEndsOnlyItsOwnScenario(t *testing.T) {
	var order []string
	err := WithT(func(k netlab.T) error {
		k.Cleanup(func() { order = append(order, "first") })
		k.Cleanup(func() { order = append(order, "second"); k.Fatalf("again") })
		k.Fatalf("no %s", "cable")
		return nil
	})
	if err == nil || err.Error() != "the network: no cable" {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string{"second", "first"}, order); diff != "" {
		t.Error(diff)
	}
	if err := WithT(func(k netlab.T) error { k.Errorf("the device lost %d", 3); return nil }); err == nil || err.Error() != "the network: the device lost 3" {
		t.Errorf("%v", err)
	}
	if err := WithT(func(k netlab.T) error { k.Cleanup(func() { k.Skipf("late") }); return nil }); err == nil || err.Error() != "the network: late" {
		t.Errorf("%v", err)
	}
	if err := WithT(func(netlab.T) error { return nil }); err != nil {
		t.Error(err)
	}
}
