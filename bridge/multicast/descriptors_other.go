//go:build !unix

package multicast

// DescriptorLimit is not known: Windows counts handles, of which there are enough.
func DescriptorLimit() int { return 0 }

func outOfDescriptors(error) bool { return false }
