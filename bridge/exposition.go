package bridge

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ruleMetric is a metric that each rule has. A Collector makes several objects of
// each sample, and the registry compares every one with all others: a scrape of
// 10,000 rules was 870,000 allocations, 48 MB. So these are written as text at
// once, and allocate nothing.
type ruleMetric struct {
	name, help, kind string
	desc             *prometheus.Desc
}

func ofRules(kind, name, help string, labels ...string) ruleMetric {
	if !slices.Contains(labels, labelInterface) {
		labels = append(labels, labelInterface)
	}
	return ruleMetric{"topicast_" + name, help, kind, desc(name, help, labels...)}
}

// exposition writes samples in the text format of Prometheus, version 0.0.4
// (https://prometheus.io/docs/instrumenting/exposition_formats/). The first error
// of its writer ends the writing.
type exposition struct {
	w      io.Writer
	buf    []byte
	metric ruleMetric // being written
	begun  bool       // its heading is
	err    error
}

const labelInterface = "interface"

// pageful is how many bytes are written at once.
const pageful = 32 << 10

// begin heads the samples of a metric, if there will be any. They must follow
// without another's in between.
func (e *exposition) begin(m ruleMetric) { e.metric, e.begun = m, false }

// sample writes a value with its labels, name after name and value after value. The label
// interface is left out where it is empty: only a rule with several has it.
func (e *exposition) sample(value uint64, labels ...string) {
	e.open("", labels)
	e.buf = strconv.AppendUint(e.buf, value, 10)
	e.end()
}

// summary writes times that are a sum and a count.
func (e *exposition) summary(sum time.Duration, count uint64, labels ...string) {
	e.open("_sum", labels)
	e.buf = strconv.AppendFloat(e.buf, sum.Seconds(), 'g', -1, 64)
	e.end()
	e.open("_count", labels)
	e.buf = strconv.AppendUint(e.buf, count, 10)
	e.end()
}

// open writes what stands before a value.
func (e *exposition) open(suffix string, labels []string) {
	m := &e.metric
	if !e.begun {
		e.begun = true
		e.buf = fmt.Appendf(e.buf, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
	}
	e.buf = append(append(e.buf, m.name...), suffix...)
	open := byte('{')
	for i := 0; i < len(labels); i += 2 {
		if labels[i] == labelInterface && labels[i+1] == "" {
			continue
		}
		e.buf = append(append(append(e.buf, open), labels[i]...), `="`...)
		e.escape(labels[i+1])
		e.buf = append(e.buf, '"')
		open = ','
	}
	e.buf = append(e.buf, "} "...)
}

func (e *exposition) end() {
	if e.buf = append(e.buf, '\n'); len(e.buf) >= pageful {
		e.flush()
	}
}

// escape writes a label's value: \, " and line feeds are escaped, and a name
// holds no line feed.
func (e *exposition) escape(s string) {
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '"' {
			e.buf = append(e.buf, '\\')
		}
		e.buf = append(e.buf, s[i])
	}
}

func (e *exposition) flush() {
	if e.err == nil {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}
