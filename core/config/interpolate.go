package config

import (
	"fmt"
	"strings"
)

// Bounds of interpolation: configparser's depth, and a length that keeps ten
// levels of references from becoming gigabytes.
const (
	maxDepth = 10
	maxValue = 64 << 10
)

// interpolate resolves configparser's basic interpolation in raw: `%%` is a
// percent sign, `%(key)s` the value of that key, looked up first in own and
// then in defaults. Any other percent sign is an error, as it is in Python.
func interpolate(raw string, own, defaults *section) (string, error) {
	var out strings.Builder
	if err := expand(&out, raw, own, defaults, 1); err != nil {
		return "", err
	}
	return out.String(), nil
}

func expand(out *strings.Builder, rest string, own, defaults *section, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%%(...)s leads to more than %d further ones", maxDepth)
	}
	for {
		before, after, found := strings.Cut(rest, "%")
		if out.Len()+len(before) > maxValue {
			return fmt.Errorf("longer than %d bytes once each %%(...)s is replaced", maxValue)
		}
		out.WriteString(before)
		switch {
		case !found:
			return nil
		case strings.HasPrefix(after, "%"):
			out.WriteByte('%')
			rest = after[1:]
		case strings.HasPrefix(after, "("):
			key, tail, ok := strings.Cut(after[1:], ")")
			if !ok || key == "" || !strings.HasPrefix(tail, "s") {
				return fmt.Errorf("bad reference %q; it is written %%(key)s", "%"+clip(after))
			}
			value, ok := find(strings.ToLower(key), own, defaults)
			if !ok {
				return fmt.Errorf("%%(%s)s names no key of this section or of [DEFAULT]", show(key))
			}
			if err := expand(out, value, own, defaults, depth+1); err != nil {
				return err
			}
			rest = tail[1:]
		default:
			return fmt.Errorf("a percent sign stands alone before %q; write %%%% for one", clip(after))
		}
	}
}

// find looks a key up as configparser does.
func find(key string, own, defaults *section) (string, bool) {
	for _, s := range []*section{own, defaults} {
		if o := s.byKey[key]; o != nil {
			return o.value, true
		}
	}
	return "", false
}

// clip shortens text for an error message.
func clip(s string) string {
	const most = 20
	r := []rune(s)
	if len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
