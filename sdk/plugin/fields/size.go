package fields

import (
	"fmt"
	"strings"
)

// ParseSize reads a number of bytes as every TypeSize field and the core's own
// settings are written: 4096, 50M (50,000,000), 1.5G, 50Mi (52,428,800). It is
// never negative.
func ParseSize(s string) (int64, error) {
	n, ok := parseSize(strings.TrimSpace(s))
	if !ok {
		return 0, fmt.Errorf("%q is no size in bytes such as 4096, 50M (50,000,000) or 50Mi (52,428,800)", s)
	}
	return n, nil
}
