package fields

import (
	"slices"
	"strings"

	"github.com/transferpy/transferpy/sdk"
)

// suggest is the advice for an unknown key: the nearest known one, or all of
// them.
func suggest(key string, known []sdk.Field) string {
	if len(known) == 0 {
		return "this plugin has no settings"
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.Name
	}
	if near := Nearest(key, names); near != "" {
		return "did you mean " + near + "?"
	}
	slices.Sort(names)
	return "known keys: " + strings.Join(names, ", ")
}

// Nearest is the name that s was probably meant to be; empty where none is
// near: at most a third of the letters (and at least two) may differ.
func Nearest(s string, names []string) string {
	best, distance := "", max(2, min(len(s), 64)/3)+1
	for _, name := range names {
		if d := edits(strings.ToLower(s), name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// edits is the Levenshtein distance of two names; of longer ones only the
// first 64 bytes count.
func edits(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
