package receive

// missing are those of all that are not among others.
func missing[T comparable](all, others []T) (left []T) {
	among := make(map[T]bool, len(others))
	for _, x := range others {
		among[x] = true
	}
	for _, x := range all {
		if !among[x] {
			left = append(left, x)
		}
	}
	return left
}
