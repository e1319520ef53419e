package bridge

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"topicast/bridge/session"
	"topicast/internal/lab/fake"
	"topicast/mapping"
)

// exposed is all that /metrics has of the bridge.
func (b *Bridge) exposed(t testing.TB) string {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(b)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.WriteRules(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// A dashboard or an alarm must not wait for the first message, reload or connection.
func TestEveryMetricIsThereFromTheStart(t *testing.T) {
	b := newTestBridgeOf(t, &fake.Network{}, Options{QueueSize: fake.Plenty, Spool: Spool{On: fake.OpenSpool(t, t.TempDir(), 1<<20), Dir: "dir"}},
		[]mapping.SendRule{fake.SendRule(t, "out", "t", "239.1.1.1:5000", fake.Answered(t, "answers")), fake.SendRule(t, "device", "d", "239.1.1.1:5000", fake.ToHost(t, "172.17.1.1:5000"))},
		[]mapping.ReceiveRule{fake.ReceiveRule(t, "in", "239.2.1.1:5000", "in", func(r *mapping.ReceiveRule) { r.Merge = time.Second })})
	text := b.exposed(t)
	all := make(chan *prometheus.Desc, 100)
	b.Describe(all)
	close(all)
	for d := range all {
		name := regexp.MustCompile(`topicast_\w+`).FindString(d.String())
		if strings.HasPrefix(name, "topicast_leg_") {
			continue // nobody knows at the start which legs there are: TestTheMetricsOfLegs
		}
		if !regexp.MustCompile(`(?m)^` + name + `(_count)?[{ ]`).MatchString(text) {
			t.Errorf("%s has no series", name)
		}
	}
	if problems, err := testutil.CollectAndLint(b); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestMetricsOfTheSpoolAndOfTheConfiguration(t *testing.T) {
	n := &fake.Network{}
	b := bridgeWithSpool(t, n, fake.SendRule(t, "r", "t", "239.1.1.1:5000"))
	b.send.Handle([]session.Message{fake.Message("t", "1", 1), fake.Message("t", "2", 1)})
	b.allOnDisk(t)
	begin := time.Now()
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000"), fake.SendRule(t, "s", "u", "239.1.1.1:5000", fake.OnPriv)}, nil)
	b.ReloadFailed(errors.New("send[3]: no"))
	text := b.exposed(t)
	for _, want := range []string{"topicast_spool_messages 2\n", "topicast_config_last_reload_successful 0\n", `topicast_build_info{goversion="go`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
	values := samples(t, text)
	if got, want := values["topicast_spool_bytes"], float64(b.options.Spool.On.Bytes()); got != want || got == 0 {
		t.Errorf("topicast_spool_bytes %v, want %v", got, want)
	}
	// A configuration that was refused does not count as taken over.
	at := values["topicast_config_last_reload_success_timestamp_seconds"]
	if from, to := float64(begin.UnixMilli())/1000, float64(time.Now().UnixMilli())/1000; at < from || at > to {
		t.Errorf("taken over at %f, want from %f to %f", at, from, to)
	}
	n.Set(fake.Iso0, fake.Priv0)
	b.reconcile(t.Context())
	b.reload(t, []mapping.SendRule{fake.SendRule(t, "r", "t", "239.1.1.1:5000")}, nil)
	if text := b.exposed(t); !strings.Contains(text, "topicast_config_last_reload_successful 1\n") {
		t.Error("a configuration that was taken over does not count as one")
	}
}

// samples are the values of the metrics without labels.
func samples(t testing.TB, text string) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for name, f := range families {
		if len(f.Metric) == 1 && f.Metric[0].Gauge != nil {
			all[name] = f.Metric[0].Gauge.GetValue()
		}
	}
	return all
}
