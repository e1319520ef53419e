package multicast

import "sync"

// maxHostErrors bounds how many are held between two calls of HostErrors.
const maxHostErrors = 256

// hostErrors are those that have come since the last call of HostErrors.
type hostErrors struct {
	mu  sync.Mutex
	all []HostError
}

func (h *hostErrors) add(e HostError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) < maxHostErrors {
		h.all = append(h.all, e)
	}
}

func (h *hostErrors) take() (all []HostError) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all, h.all = h.all, nil
	return all
}
