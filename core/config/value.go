package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
	"github.com/transferpy/transferpy/sdk/plugin/fields"
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

// leastRate keeps a connection from looking dead: with less, what goes at once
// takes longer than peers stay silent.
const leastRate = 1000

// parseRate reads bytes a second; 0 is no limit.
func parseRate(text string) (int64, error) {
	n, err := fields.ParseSize(text)
	if err == nil && n > 0 && n < leastRate {
		err = fmt.Errorf("%q is less than %d bytes a second; write for example 500k or 50M", text, leastRate)
	}
	return n, err
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

// parseName checks the name of a plugin.
func parseName(text string) (string, error) {
	if !fields.ValidName(text) {
		return "", fmt.Errorf("%q is no plugin's name; these are lower-case letters, digits and dashes, at most 32, a letter first", text)
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

// unknown says that word is none of names, with the nearest one as advice.
func unknown(where, what, word string, names []string) *sdk.Error {
	e := configError("%s: unknown %s %q", where, what, word)
	if near := fields.Nearest(word, names); near != "" {
		e.Hint = fmt.Sprintf("did you mean %q?", near)
	} else {
		sorted := slices.Clone(names)
		slices.Sort(sorted)
		e.Hint = "known: " + strings.Join(sorted, ", ")
	}
	return e
}

// parseFile makes a file's name absolute: the request is stored, and read
// again from another directory.
func parseFile(text string) (string, error) {
	if text == "" || strings.IndexByte(text, 0) >= 0 {
		return "", errors.New("a file's name is needed")
	}
	return filepath.Abs(text)
}
