// Package fields checks a plugin's section of the configuration against the
// fields that the plugin describes, and brings its values into the canonical
// form of sdk.Values. The core does so before any host is touched; the
// conformance suites do the same.
package fields

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/transferpy/transferpy/sdk"
)

// Bounds of one value and of one key's list.
const (
	maxValue  = 64 << 10
	maxValues = 1 << 10
)

// Checked is a section that holds.
type Checked struct {
	Values sdk.Values
	// Secrets are the values of the secret fields, to be kept out of all
	// that is shown.
	Secrets []string
}

// Check checks the raw values of a section, key by key as the configuration
// and -o give them, later ones last, against the fields of d. Where a field
// is no list, the last value counts. Errors are of KindConfig, one for each
// mistake, and name key and plugin; none holds a secret.
func Check(d sdk.Description, raw map[string][]string) (Checked, []*sdk.Error) {
	out := Checked{Values: sdk.Values{}}
	var mistakes []*sdk.Error
	add := func(key, problem, hint string) {
		mistakes = append(mistakes, &sdk.Error{Kind: sdk.KindConfig,
			Message: fmt.Sprintf("%s.%s: %s (%s %s)", d.Name, key, problem, d.Kind, d.Name), Hint: hint})
	}
	known := make(map[string]sdk.Field, len(d.Fields))
	for _, f := range d.Fields {
		known[f.Name] = f
	}
	for _, key := range sortedKeys(raw) {
		if _, ok := known[key]; !ok {
			add(sdk.Raw(key).Display(), "no such key", suggest(key, d.Fields))
		}
	}
	for _, f := range d.Fields {
		values, problem, hint := check(f, raw[f.Name])
		if problem != "" {
			add(f.Name, problem, hint)
			continue
		}
		if len(values) == 0 {
			continue
		}
		out.Values[f.Name] = values
		if f.Secret {
			out.Secrets = append(out.Secrets, values...)
		}
	}
	return out, mistakes
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// check gives the canonical values of one field, or the problem with them.
func check(f sdk.Field, raw []string) (values []string, problem, hint string) {
	given := len(raw) > 0
	if !given && f.Default != "" {
		raw = []string{f.Default}
	}
	if len(raw) == 0 {
		if f.Required {
			return nil, "a value is required", help(f)
		}
		return nil, "", ""
	}
	for _, r := range raw {
		if len(r) > maxValue {
			return nil, fmt.Sprintf("a value is longer than %d bytes", maxValue), ""
		}
	}
	if f.Secret && given {
		secret, problem, hint := readSecret(f, raw[len(raw)-1])
		if problem != "" {
			return nil, problem, hint
		}
		raw = []string{secret}
	}
	if f.Type == sdk.TypeList {
		values = splitList(raw)
		if len(values) > maxValues {
			return nil, fmt.Sprintf("more than %d values", maxValues), ""
		}
	} else {
		v, problem := canonical(f.Type, raw[len(raw)-1])
		if problem != "" {
			if f.Secret {
				return nil, "the secret is no " + string(f.Type), help(f)
			}
			return nil, problem, help(f)
		}
		values = []string{v}
	}
	for _, v := range values {
		if len(f.Enum) > 0 && !slices.Contains(f.Enum, v) {
			return nil, fmt.Sprintf("%q is not one of %s", v, strings.Join(f.Enum, ", ")), help(f)
		}
	}
	if f.Required && (len(values) == 0 || values[0] == "") {
		return nil, "a value is required", help(f)
	}
	return values, "", ""
}

// help is what a field says of itself.
func help(f sdk.Field) string {
	if f.Help == "" {
		return "type " + string(f.Type)
	}
	return f.Help + "; type " + string(f.Type)
}

// splitList splits values at commas and newlines; blanks around an element
// and empty elements are dropped.
func splitList(raw []string) []string {
	var out []string
	for _, r := range raw {
		for _, v := range strings.FieldsFunc(r, func(c rune) bool { return c == ',' || c == '\n' }) {
			if v = strings.TrimSpace(v); v != "" {
				out = append(out, v)
			}
		}
	}
	return out
}

// canonical gives the one form in which sdk.Values reads a value.
func canonical(t sdk.FieldType, s string) (value, problem string) {
	trimmed := strings.TrimSpace(s)
	switch t {
	case sdk.TypeString:
		return s, ""
	case sdk.TypeBool:
		switch strings.ToLower(trimmed) {
		case "yes", "true", "on", "1":
			return "true", ""
		case "no", "false", "off", "0":
			return "false", ""
		}
		return "", fmt.Sprintf("%q is neither yes nor no", s)
	case sdk.TypeInt:
		n, err := strconv.ParseInt(trimmed, 10, 64)
		if err != nil {
			return "", fmt.Sprintf("%q is no decimal integer of 64 bits", s)
		}
		return strconv.FormatInt(n, 10), ""
	case sdk.TypeDuration:
		d, err := time.ParseDuration(trimmed)
		if err != nil || d < 0 {
			return "", fmt.Sprintf("%q is no duration such as 90s or 2h", s)
		}
		return d.String(), ""
	case sdk.TypeSize:
		n, ok := parseSize(trimmed)
		if !ok {
			return "", fmt.Sprintf("%q is no size in bytes such as 4096, 50M (50,000,000) or 50Mi (52,428,800)", s)
		}
		return strconv.FormatInt(n, 10), ""
	}
	return "", fmt.Sprintf("the plugin describes it with the unknown type %q", t)
}

// parseSize reads 4096, 50M, 1.5G, 50Mi; the result fits 63 bits.
func parseSize(s string) (int64, bool) {
	s = strings.TrimSuffix(s, "B")
	base, binary := int64(1000), false
	if cut, ok := strings.CutSuffix(s, "i"); ok {
		s, base, binary = cut, 1024, true
	}
	factor := int64(1)
	if n := len(s); n > 0 {
		power := strings.IndexByte("KMGTPE", s[n-1]&^0x20) + 1
		if power > 0 {
			s = s[:n-1]
			for range power {
				factor *= base
			}
		} else if binary {
			return 0, false
		}
	}
	// Only plain decimals: what big.Rat reads beyond them (exponents,
	// fractions) could name a number that takes for ever to write down.
	if s == "" || len(s) > 32 || strings.Trim(s, "0123456789.") != "" {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, false
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	if !r.IsInt() || !r.Num().IsInt64() {
		return 0, false
	}
	return r.Num().Int64(), true
}
