package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// boolWords are the words that configparser and transfer.py take for a bool.
var boolWords = map[string]bool{
	"1": true, "yes": true, "true": true, "on": true, "t": true,
	"0": false, "no": false, "false": false, "off": false, "f": false,
}

// parseBool takes yes/no, true/false, on/off, 1/0 and t/f in any case.
func parseBool(text string) (bool, error) {
	v, ok := boolWords[strings.ToLower(text)]
	if !ok {
		return false, fmt.Errorf("%q is neither yes nor no", text)
	}
	return v, nil
}

// sizeUnits are the suffixes of a size.
var sizeUnits = map[string]int64{
	"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
}

// ParseSize reads a number of bytes: 50M is 50,000,000 and 50Mi is
// 52,428,800; K, G and T go likewise, a B may follow, case does not matter.
// Fractions and negative numbers are refused.
func ParseSize(text string) (int64, error) {
	digits := strings.TrimLeft(text, "0123456789")
	number, suffix := text[:len(text)-len(digits)], strings.ToLower(digits)
	unit, ok := sizeUnits[strings.TrimSuffix(suffix, "b")]
	n, err := strconv.ParseInt(number, 10, 64)
	if !ok || number == "" {
		return 0, fmt.Errorf("%q is no size; write a whole number of bytes, or one with K, M, G, T (powers of 1000) or Ki, Mi, Gi, Ti (powers of 1024)", text)
	}
	if err != nil || n > (1<<63-1)/unit {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * unit, nil
}

// parseInt reads a whole number between low and high.
func parseInt(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q is no whole number from %d to %d", text, low, high)
	}
	return n, nil
}

// parseDuration reads Go's form and refuses what is not positive.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%q is no time; write for example 90s, 10m or 24h", text)
	}
	return d, nil
}

// parseNetworks checks CIDR networks and returns them in their masked form.
func parseNetworks(list []string) ([]string, error) {
	var out []string
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no network; write for example 10.64.0.0/12 or 2620:0:861::/48", text)
		}
		out = append(out, p.Masked().String())
	}
	return out, nil
}

// parseOwner checks name, numeric or USER:GROUP.
func parseOwner(text string) (string, error) {
	if text == "name" || text == "numeric" {
		return text, nil
	}
	user, group, ok := strings.Cut(text, ":")
	if !ok || user == "" || group == "" || strings.ContainsFunc(text, isSpace) || strings.Contains(group, ":") {
		return "", fmt.Errorf("%q is neither name, numeric nor USER:GROUP", text)
	}
	return text, nil
}

// parseName checks the name of a plugin: [a-z][a-z0-9-]{0,31}.
func parseName(text string) (string, error) {
	const most = 32
	bad := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	}
	if text == "" || len(text) > most || text[0] < 'a' || text[0] > 'z' || strings.ContainsFunc(text, bad) {
		return "", fmt.Errorf("%q is no plugin's name; these are lower-case letters, digits and dashes, at most %d, a letter first", text, most)
	}
	return text, nil
}

// splitList cuts a list at commas and newlines and drops empty elements.
func splitList(texts []string) []string {
	var out []string
	for _, text := range texts {
		for _, e := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' }) {
			if e = strings.TrimFunc(e, isSpace); e != "" {
				out = append(out, e)
			}
		}
	}
	return out
}

// Nearest returns the name that most resembles word, or "" when none is near
// enough to be what was meant.
func Nearest(word string, names []string) string {
	best, bestDistance := "", len(word)/3+2
	for _, name := range names {
		if d := distance(word, name, bestDistance); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// distance is the Levenshtein distance of a and b in bytes; limit when their
// lengths alone make it so.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// unknown says that word is none of names, with the nearest one as advice.
func unknown(where, what, word string, names []string) *sdk.Error {
	e := configError("%s: unknown %s %q", where, what, word)
	if near := Nearest(word, names); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	} else {
		sorted := slices.Clone(names)
		slices.Sort(sorted)
		e.Hint = "known: " + strings.Join(sorted, ", ")
	}
	return e
}
