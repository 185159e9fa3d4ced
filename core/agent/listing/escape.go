package listing

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape returns s as it stands in a field: printable UTF-8 as it is, but a
// backslash, a tab and a line's end by the letter that C has for them, and
// each byte of anything else as \xHH. also is one more character that stands
// as \xHH; 0 for none.
func escape(s string, also byte) string {
	plain := true
	for i, r := range s {
		if !isPlain(s[i:], r, also) {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case isPlain(s, r, also):
			b.WriteString(s[:n])
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		default:
			for i := range n {
				fmt.Fprintf(&b, `\x%02x`, s[i])
			}
		}
		s = s[n:]
	}
	return b.String()
}

// isPlain reports whether the rune at the beginning of s stands for itself.
func isPlain(s string, r rune, also byte) bool {
	switch {
	case r == '\\', also != 0 && r == rune(also):
		return false
	case r == utf8.RuneError: // a real U+FFFD is three bytes long
		_, n := utf8.DecodeRuneInString(s)
		return n > 1
	}
	return strconv.IsPrint(r)
}

// unescape is the reverse of escape. It also takes what escape would have
// written otherwise: what can be printed differs from one version of Unicode
// to the next.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b = append(b, s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("a backslash with nothing behind it")
		}
		switch s[i] {
		case '\\':
			b = append(b, '\\')
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'r':
			b = append(b, '\r')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf(`\x without two digits`)
			}
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf(`\x without two digits: %.2q`, s[i+1:])
			}
			b = append(b, byte(v))
			i += 2
		default:
			return "", fmt.Errorf(`unknown escape \%c`, s[i])
		}
	}
	return string(b), nil
}
