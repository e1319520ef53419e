package harness

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"topicast/internal/lab/netlab"
)

// Get asks a web server from a host. An answer that is not 200 is an error, and the body
// is there.
func Get(h *netlab.Host, url string) ([]byte, error) {
	web := http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: answerWithin}
	answer, err := web.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	return body, err
}

// Follow asks a web server for an answer that has no end, and reads it until it is ended, which
// returns how many bytes there were. An answer that is not 200 is an error.
func Follow(h *netlab.Host, url string) (end func() (bytes int64), err error) {
	web := http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: answerWithin}}
	answer, err := web.Get(url)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	read := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, answer.Body)
		read <- n
	}()
	return func() int64 {
		answer.Body.Close()
		return <-read
	}, nil
}

// A Sample is one line of /metrics.
type Sample struct {
	Name   string
	Labels map[string]string
	Value  float64
}

// ParseMetrics reads the text format of Prometheus as far as the names of
// topicast's labels, which have no commas and quotes in their values, need it.
func ParseMetrics(text string) (samples []Sample) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || strings.HasPrefix(line, "#") {
			continue
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			continue
		}
		m := Sample{Value: value, Labels: map[string]string{}}
		var labels string
		m.Name, labels, _ = strings.Cut(line[:i], "{")
		for pair := range strings.SplitSeq(strings.TrimSuffix(labels, "}"), ",") {
			if key, quoted, ok := strings.Cut(pair, "="); ok {
				m.Labels[key] = strings.Trim(quoted, `"`)
			}
		}
		samples = append(samples, m)
	}
	return samples
}
