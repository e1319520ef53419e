package account

// Shared is how much is taken beyond the parts that are kept for each.
func (b *MemBudget) Shared() int64 { return b.shared.Load() }
